"""The adapters alone, on a real PostgreSQL."""
