"""`InterruptScope`: how a phase, a claim or a LISTEN that waits is interrupted."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class InterruptScope:
    """Interrupts a piece of work wherever it said that it can be. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cancel: Callable[[], object] | None = None
        self.cancelled = False

    @contextmanager
    def interruptible(self, cancel: Callable[[], object]) -> Iterator[None]:
        """While inside, `cancel` interrupts; at once when the work was cancelled already."""
        with self._lock:
            self._cancel = cancel
            late = self.cancelled
        if late:
            cancel()
        try:
            yield
        finally:
            with self._lock:
                self._cancel = None

    def begin_cancel(self) -> Callable[[], object] | None:
        """Mark it cancelled. What interrupts the work is returned, to be called where that may block (for the
        network's time: not on an actor's or the timers' thread); None: nothing.

        Once, however many ask: what comes late may meet the next user of the connection.
        """
        with self._lock:
            cancel = None if self.cancelled else self._cancel
            self.cancelled = True
        return cancel
