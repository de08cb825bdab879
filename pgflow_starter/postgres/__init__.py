"""The only importer of psycopg: pool, listener, queries, error translation, embedded server, installation."""
