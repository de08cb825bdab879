"""The starter on a real PostgreSQL: what its callers see."""
