"""Measurements: every figure beside its floor, plain psycopg doing the same statements in the same run."""
