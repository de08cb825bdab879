"""Workers and client on a real PostgreSQL."""
