"""What callers ask of the database: start runs, read them, wait for them. Knows no module and no worker."""
