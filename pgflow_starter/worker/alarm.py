"""`Alarm`: one timer for the earliest of many times."""

from __future__ import annotations

import threading
from collections.abc import Callable
from math import inf

from pgflow_starter.clock import Clock, Timer, Timers


class Alarm:
    """Calls `ring`, on the timers' thread, when the first of the times has come for which it was set. Thread-safe.

    What it was set for besides is forgotten then: who is called sets it for what is still to come.
    """

    def __init__(self, clock: Clock, timers: Timers, ring: Callable[[], object]) -> None:
        self._clock = clock
        self._timers = timers
        self._ring = ring
        self._lock = threading.Lock()
        self._at = inf
        self._timer: Timer | None = None

    def set(self, at: float) -> None:
        """Ring then (monotonic clock), or before. Raises RuntimeError when the timers have no thread."""
        if at >= self._at:
            return
        with self._lock:
            if at >= self._at:
                return
            former, self._timer = self._timer, self._timers.after(at - self._clock.monotonic(), self._rings)
            self._at = at
            if former is not None:
                former.cancel()

    def _rings(self) -> None:
        with self._lock:
            self._at = inf  # first: what is set from now on may not be seen by this ring
            self._timer = None
        self._ring()
