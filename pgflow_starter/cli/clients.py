"""A client for a command, which tells what is wrong itself."""

from __future__ import annotations

import logging

from pgflow_starter.starter.client import PgflowClient

PATIENCE = 10.0
"""Seconds that a command waits for the database to be there."""


def client_on(dsn: str, patience: float = PATIENCE) -> PgflowClient:
    """A client whose troubles are logged nowhere: the command's one error line has them."""
    for name in ("pgflow_starter", "psycopg"):
        logging.getLogger(name).addHandler(logging.NullHandler())
    return PgflowClient(dsn, patience=patience)
