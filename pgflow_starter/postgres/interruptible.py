"""`InterruptibleBlock`: what runs on a connection may be cancelled, but not what another runs on it afterwards."""

from __future__ import annotations

import threading
from types import TracebackType

from pgflow_starter.postgres.connection import Connection


class InterruptibleBlock:
    """A context manager around the use of a connection. Thread-safe."""

    def __init__(self, conn: Connection) -> None:
        self._lock = threading.Lock()
        self._conn: Connection | None = conn

    def __enter__(self) -> None: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Waits for a request that is on its way: who has the connection next would meet it.
        with self._lock:
            self._conn = None

    def interrupt(self, timeout: float) -> None:
        """Have the server cancel the statement, within `timeout` seconds; nothing when the block is over.

        Raises psycopg.Error.
        """
        with self._lock:
            if self._conn is not None:
                self._conn.cancel_safe(timeout=timeout)
