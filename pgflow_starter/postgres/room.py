"""`Room`: how many backends of ours the server may hold, those included that nobody knows the end of."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection

from pgflow_starter.postgres.connection import Backend


class Room:
    """For `size` connections, of all pools that follow each other. Thread-safe.

    A connection that was given up while the server was at work may leave its backend behind, for as long as somebody
    holds a lock. Until the server says that it has ended, it takes the place of a connection; but one connection there
    may always be. `freed()` is called when there may be room where there was none.
    """

    def __init__(self, size: int, freed: Callable[[], object] = lambda: None) -> None:
        self.size = size
        self.freed = freed
        self._lock = threading.RLock()  # as the pool's
        self._taken = 0
        self._left: set[Backend] = set()

    @property
    def left_behind(self) -> tuple[Backend, ...]:
        """The backends of which nobody knows whether they have ended."""
        with self._lock:
            return tuple(self._left)

    def enter(self) -> bool:
        """Take a place; False where there is none."""
        with self._lock:
            if self._taken and self._taken + len(self._left) >= self.size:
                return False
            self._taken += 1
            return True

    def leave(self) -> None:
        """Give a place back: its connection is closed, or was never made."""
        with self._lock:
            self._taken -= 1
        self.freed()

    def leave_behind(self, backend: Backend) -> None:
        """Its connection was given up."""
        with self._lock:
            self._left.add(backend)

    def ended(self, backends: Collection[Backend]) -> None:
        """The server says that these are no more."""
        with self._lock:
            self._left.difference_update(backends)
        self.freed()
