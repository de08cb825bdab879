"""What callers ask of the database: start runs, read them, wait for them."""
