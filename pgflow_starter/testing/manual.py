"""Time that moves only when the test says so.

clock = ManualClock()
timers = ManualTimers(clock)
timers.after(5, lambda: print("five seconds are over"))
timers.advance(5)
"""

from __future__ import annotations

import heapq
import itertools
import math
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

START = datetime(2026, 1, 1, tzinfo=UTC)


class ManualClock:
    """Both clocks of `ports.Clock`, standing still until `advance`. Thread-safe."""

    def __init__(self, start: datetime = START) -> None:
        self._start = start
        self._elapsed = 0.0
        self._lock = threading.Lock()

    def monotonic(self) -> float:
        """Seconds that the clock was advanced by in all."""
        return self._elapsed

    def now(self) -> datetime:
        """The start and all that the clock was advanced by."""
        return self._start + timedelta(seconds=self._elapsed)

    def advance(self, seconds: float) -> None:
        """Move both clocks on. Fires no timers: `ManualTimers.advance` does. Raises ValueError for going back."""
        _refuse_going_back(seconds)
        with self._lock:
            self._elapsed += seconds


class ManualTimer:
    """One timed call of `ManualTimers`."""

    __slots__ = ("call",)

    def __init__(self, call: Callable[[], object]) -> None:
        self.call: Callable[[], object] | None = call

    def cancel(self) -> None:
        """Forget the call; does nothing once it was made. Thread-safe."""
        self.call = None


class ManualTimers:
    """`ports.Timers` without a thread: calls are made by `advance`, on its caller's thread.

    Any thread may arm and cancel; let one at a time advance.
    """

    def __init__(self, clock: ManualClock | None = None) -> None:
        self.clock = clock or ManualClock()
        self._heap: list[tuple[float, int, ManualTimer]] = []
        self._order = itertools.count()
        self._lock = threading.Lock()

    def after(self, delay: float, call: Callable[[], object]) -> ManualTimer:
        """Make the call once `advance` has moved the clock on by `delay` seconds; by less than 0 is by 0."""
        timer = ManualTimer(call)
        with self._lock:
            heapq.heappush(self._heap, (self.clock.monotonic() + max(delay, 0.0), next(self._order), timer))
        return timer

    @property
    def pending(self) -> int:
        """How many calls are neither made nor cancelled."""
        with self._lock:
            return sum(timer.call is not None for _, _, timer in self._heap)

    @property
    def next_in(self) -> float | None:
        """Seconds until the next call is due, 0 when it is overdue; None when there is none."""
        with self._lock:
            due = min((at for at, _, timer in self._heap if timer.call is not None), default=None)
        return None if due is None else max(0.0, due - self.clock.monotonic())

    def advance(self, seconds: float = 0.0) -> None:
        """Move the clock on by `seconds` and make the calls that are due, in order, the clock at each one's time.

        That includes calls armed by these calls. What a call raises goes to the caller: the clock then stands at that
        call's time, and the calls behind it are still to be made. Raises ValueError for going back.
        """
        _refuse_going_back(seconds)
        until = self.clock.monotonic() + seconds
        while (due := self._pop(until)) is not None:
            at, call = due
            self._move_to(at)
            call()
        self._move_to(until)

    def _pop(self, until: float) -> tuple[float, Callable[[], object]] | None:
        with self._lock:
            while self._heap and self._heap[0][0] <= until:
                at, _, timer = heapq.heappop(self._heap)
                call, timer.call = timer.call, None
                if call is not None:
                    return at, call
        return None

    def _move_to(self, at: float) -> None:
        self.clock.advance(max(0.0, at - self.clock.monotonic()))


def _refuse_going_back(seconds: float) -> None:
    if not (math.isfinite(seconds) and seconds >= 0):
        raise ValueError(f"seconds must be a number of at least 0, got {seconds!r}")
