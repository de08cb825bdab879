"""What puts pgmq and the core into a database, looks what is there, and grants rights. No running starter needs it."""
