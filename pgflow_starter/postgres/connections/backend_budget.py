"""`BackendBudget`: how many backends of ours the server may hold, those included that nobody knows the end of."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection

from pgflow_starter.postgres.connections.connection import Backend


class BackendBudget:
    """For `size` connections, of all pools that follow each other. Thread-safe.

    A connection that was given up may leave its backend behind, for as long as somebody holds a lock. Until the server
    says that it has ended, it takes the place of a connection; but one connection there may be beside as many as there
    are places. Of these `reserved_for_urgent`, but never all, are for urgent calls. `freed()`: one may have come free.
    """

    def __init__(self, size: int, *, reserved_for_urgent: int = 0, freed: Callable[[], object] = lambda: None) -> None:
        self.size = size
        self.reserved_for_urgent = reserved_for_urgent
        self.freed = freed
        self._lock = threading.RLock()  # as the pool's
        self._taken = 0
        self._left: set[Backend] = set()

    @property
    def left_behind(self) -> tuple[Backend, ...]:
        """The backends of which nobody knows whether they have ended."""
        with self._lock:
            return tuple(self._left)

    @property
    def occupied(self) -> int:
        """Connections, of whichever pool, and backends of which nobody knows whether they have ended."""
        with self._lock:
            return self._taken + len(self._left)

    @property
    def full(self) -> bool:
        """Whether there is no place for one more connection."""
        with self._lock:
            first = not self._taken and len(self._left) <= self.size
            return not first and self.occupied >= self.size

    def take(self) -> bool:
        """Take a place; False where there is none."""
        with self._lock:
            if self.full:
                return False
            self._taken += 1
            return True

    def give_back(self) -> None:
        """Give a place back: its connection is closed, or was never made."""
        with self._lock:
            self._taken -= 1
        self.freed()

    def leave_behind(self, backend: Backend | None) -> None:
        """Its connection was given up; None for that of a pooler, who sees to it."""
        if backend is not None:
            with self._lock:
                self._left.add(backend)

    def ended(self, backends: Collection[Backend]) -> None:
        """The server says that these are no more."""
        with self._lock:
            self._left.difference_update(backends)
        self.freed()
