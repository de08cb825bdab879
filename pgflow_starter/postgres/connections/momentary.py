"""`Momentary`: a database of which nobody keeps a session."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from typing import TYPE_CHECKING, Any

from pgflow_starter.clock import Clock
from pgflow_starter.postgres.connections.connection import Session
from pgflow_starter.postgres.connections.database import Database

if TYPE_CHECKING:
    from pgflow_starter.ports import CancelScope


class Momentary(Database):
    """Each block has a session and threads of its own, which end with it. Thread-safe."""

    def __init__(self, conninfo: str, *, clock: Clock) -> None:
        super().__init__(conninfo, pool_size=1, clock=clock)
        self._conninfo = conninfo
        self._blocks: dict[Session, Database] = {}

    @contextmanager
    def connection(self, scope: CancelScope | None = None, **limits: Any) -> Iterator[Session]:
        """As `Database.connection`."""
        own = Database(self._conninfo, pool_size=1, clock=self.clock)
        with closing(own), own.connection(scope, **limits) as conn:
            self._blocks[conn] = own
            try:
                yield conn
            finally:
                del self._blocks[conn]

    def limited(self, conn: Session, seconds: float) -> AbstractContextManager[object]:
        """As `Database.limited`."""
        return self._blocks[conn].limited(conn, seconds)
