"""What puts pgmq and the core into a database, looks up what is installed, and grants rights. No starter needs it."""
