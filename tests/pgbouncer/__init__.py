"""Behind a real PgBouncer. Run by `make test-pgbouncer`, not by `make test`."""
