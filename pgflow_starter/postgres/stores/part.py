"""`StorePart`: what the parts of a task store have in common; and statements on the table of a queue."""

from __future__ import annotations

from functools import cache

from psycopg import sql

from pgflow_starter.postgres.connections.database import Database
from pgflow_starter.postgres.stores.features import Detected


class StorePart:
    """A Database, and what the core and the pgmq in it were found to do."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._detected = Detected()


@cache
def on_queue(statement: str, slug: str) -> str:
    """The statement on the table of that flow's queue."""
    return sql.SQL(statement).format(queue=sql.Identifier(f"q_{slug}")).as_string()
