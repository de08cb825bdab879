"""`PhaseScope`: how what waits in a phase is interrupted."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class PhaseScope:
    """Interrupts a phase wherever it said that it can be. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cancel: Callable[[], object] | None = None
        self.cancelled = False

    @contextmanager
    def interruptible(self, cancel: Callable[[], object]) -> Iterator[None]:
        """While inside, `cancel` interrupts; at once when the phase was given up already."""
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

    def cancel(self) -> None:
        """Interrupt the phase. May block for the network's time: not for an actor's or the timers' thread."""
        interrupt = self.give_up()
        if interrupt is not None:
            interrupt()

    def give_up(self) -> Callable[[], object] | None:
        """The phase is given up. What interrupts it is returned, to be called where that may block; None: nothing.

        Once, however many ask: what comes late may meet the next user of the connection.
        """
        with self._lock:
            cancel = None if self.cancelled else self._cancel
            self.cancelled = True
        return cancel
