"""The database adapter for tests of single adapters."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pgflow_starter.clock import SystemClock
from pgflow_starter.postgres.connections.database import Database


class NoScope:
    """A cancel scope that nobody cancels."""

    @contextmanager
    def interruptible(self, cancel: Callable[[], None]) -> Iterator[None]:
        """Nothing happens."""
        yield


@contextmanager
def opened(conninfo: str, *, pool_size: int = 10, patience: float = 10.0) -> Iterator[Database]:
    """A Database, closed at the end."""
    database = Database(conninfo, pool_size=pool_size, clock=SystemClock(), patience=patience)
    try:
        yield database
    finally:
        database.close()
