"""The one LISTEN connection and what is heard on it."""
