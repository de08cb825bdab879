"""Holding pgmq's lock of a queue: what whoever creates a queue or changes its notifications waits for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pgflow_starter.postgres.setup.admin import OWN_PATH, STANDARD_STRINGS, session

_PATIENCE = "set local statement_timeout = '10s'"
_LOCK = "select pgmq.acquire_queue_lock(%s::text)"


@contextmanager
def queue_lock(conninfo: str, queue: str) -> Iterator[Callable[[], None]]:
    """Hold the lock, on a connection of its own, until the yielded function is called or the block ends.

    The queue need not exist yet. Waits 10 seconds for whoever holds the lock. Raises SetupError, DatabaseError.
    """
    with session(conninfo) as connection:
        connection.autocommit = False
        for setting in (OWN_PATH, STANDARD_STRINGS, _PATIENCE):
            connection.execute(setting)
        connection.execute(_LOCK, [queue])
        yield connection.rollback
