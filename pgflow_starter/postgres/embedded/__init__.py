"""A PostgreSQL server of our own, for tests and demos. Knows processes and folders, and nothing of pgflow."""
