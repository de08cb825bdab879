"""`Line`: who waits to be let in, in turn."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from pgflow_starter.clock import Clock, one_wait


class Line:
    """Lets in as many as `admits(inside)` says, which is told how many are. Thread-safe."""

    def __init__(self, admits: Callable[[int], bool], clock: Clock) -> None:
        self._admits = admits
        self._clock = clock
        self._lock = threading.RLock()
        self._waiting: deque[threading.Condition] = deque()
        self._inside = 0

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def enter(self, deadline: float) -> bool:
        """Wait for one's turn, to be followed by `leave`; False when it had not come by then (monotonic clock)."""
        with self._lock:
            if not self._waiting and self._admits(self._inside):
                self._inside += 1
                return True
            place = threading.Condition(self._lock)
            self._waiting.append(place)
            try:
                while self._waiting[0] is not place or not self._admits(self._inside):
                    left = deadline - self._clock.monotonic()
                    if left <= 0:
                        return False
                    place.wait(one_wait(left))
                self._inside += 1
                return True
            finally:
                self._waiting.remove(place)
                self.look_again()

    def leave(self) -> None:
        """Of one who was let in."""
        with self._lock:
            self._inside -= 1
            self.look_again()

    def look_again(self) -> None:
        """What `admits` goes by may have changed."""
        with self._lock:
            if self._waiting:
                self._waiting[0].notify()
