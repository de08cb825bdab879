"""The connection pool, the probe that finds outages, and what limits calls and cancels them. Knows no query."""
