"""`Pace`: at most two connection attempts a second at servers that do not answer, however many parts would like to."""

from __future__ import annotations

import threading
from math import inf

from pgflow_starter.clock import Clock

INTERVAL = 0.55
"""Seconds from one attempt to the next. More than half a second: on a busy machine threads do not start on the dot."""


class Pace:
    """Shared by all that connect for one starter or client. Thread-safe; never waits itself.

    Each attempt waits for its turn, which it reserves and, where the server answers, gives back: so only those that
    fail, and those under way, keep anybody waiting.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.RLock()  # a signal handler may come on top of the thread that is in here
        self._next_at = 0.0

    def reserve(self) -> float:
        """Take the next turn; in how many seconds it comes."""
        return self.reserve_within(inf) or 0.0

    def reserve_within(self, seconds: float) -> float | None:
        """Take the next turn where it comes within so many seconds; in how many it does, else None."""
        with self._lock:
            now = self._clock.monotonic()
            turn = max(now, self._next_at)
            if turn - now > seconds:
                return None
            self._next_at = turn + INTERVAL
            return turn - now

    def begin(self) -> None:
        """The turn has come, perhaps late: the next attempt is as far from this one as it was to be."""
        with self._lock:
            self._next_at = max(self._next_at, self._clock.monotonic() + INTERVAL)

    def give_back(self) -> None:
        """The server answered: that attempt is nobody's reason to wait."""
        with self._lock:
            self._next_at -= INTERVAL
