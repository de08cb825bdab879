"""The tests: sentences for names, a real PostgreSQL, and no sleeping."""
