"""`StorePart`: what the parts of a task store have in common."""

from __future__ import annotations

from pgflow_starter.postgres.connections.database import Database
from pgflow_starter.postgres.stores.features import Detected


class StorePart:
    """A Database, and what the core and the pgmq in it were found to do."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._detected = Detected()
