"""A PostgreSQL server of our own, for tests and demos."""
