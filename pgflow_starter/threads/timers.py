"""The one timer thread: a heap of timed calls on the monotonic clock."""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
from collections.abc import Callable

from pgflow_starter.clock import Clock
from pgflow_starter.threads.cache import call_logged
from pgflow_starter.threads.own_thread import Died, OwnThread

logger = logging.getLogger("pgflow_starter.timers")

_LONGEST_WAIT = 3600.0
"""Seconds: a lock's longest wait is bounded, and what is due after it need not be met to the second."""

_SWEEP_FROM = 1024
"""Entries from which on cancelled ones are looked for."""


class TimedCall:
    """One entry of the heap; cancelled entries stay until they are due or make up half of a long heap."""

    __slots__ = ("call",)

    def __init__(self, call: Callable[[], object]) -> None:
        self.call: Callable[[], object] | None = call

    def cancel(self) -> None:
        """Forget the call; does nothing once it was made. Thread-safe."""
        self.call = None


class TimerThread:
    """Makes timed calls on one daemon thread, which starts with the first and survives what they raise.

    Calls must return at once: they only send messages. Thread-safe.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._heap: list[tuple[float, int, TimedCall]] = []
        self._order = itertools.count()
        self._sweep_at = _SWEEP_FROM
        # Entered by the lock itself: a signal's exception right after Condition.__enter__ would leave it held for ever.
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._thread = OwnThread(
            "pgflow-timers", self._make_calls, hangs="a timed call hangs, a log's or a tracer's perhaps"
        )
        self._closed = False

    def after(self, delay: float, call: Callable[[], object]) -> TimedCall:
        """Make the call in `delay` seconds; after `close`, never."""
        timed = TimedCall(call)
        with self._lock:
            if self._closed:
                return timed
            entry = (self._clock.monotonic() + max(delay, 0.0), next(self._order), timed)
            heapq.heappush(self._heap, entry)
            if len(self._heap) >= self._sweep_at:
                self._sweep()
            self._thread.start()
            if self._heap[0] is entry:
                self._changed.notify()
        return timed

    @property
    def entries(self) -> int:
        """How many are kept, cancelled ones included."""
        return len(self._heap)

    def revive(self, died: Died) -> None:
        """As `Threaded.revive`; the calls that wait are kept."""
        with self._lock:
            self._thread.revive(died, needed=bool(self._heap))

    def close(self) -> None:
        """Drop all calls and end the thread; waits up to a second for a call that is being made. Idempotent."""
        with self._lock:
            self._closed = True
            self._heap.clear()
            self._changed.notify()
        self._thread.close()

    def _make_calls(self) -> None:
        while (timed := self.await_due()) is not None:
            call = timed.call
            if call is None:
                continue
            timed.call = None
            call_logged(call, logger, "a timed call")

    def await_due(self) -> TimedCall | None:
        """On the thread: wait for the next call that is due; None when closed."""
        with self._lock:
            while not self._closed:
                if not self._heap:
                    self._changed.wait()
                    continue
                at, _, timed = self._heap[0]
                remaining = at - self._clock.monotonic()
                if timed.call is None or remaining <= 0:
                    heapq.heappop(self._heap)
                    return timed
                self._changed.wait(min(remaining, _LONGEST_WAIT))
            return None

    def _sweep(self) -> None:
        """Drop the cancelled entries: a task that ends well leaves one, due only when it would have timed out."""
        self._heap = [entry for entry in self._heap if entry[2].call is not None]
        heapq.heapify(self._heap)
        self._sweep_at = max(_SWEEP_FROM, 2 * len(self._heap))
