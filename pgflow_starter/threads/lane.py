"""`Lane`: so many calls at a time, in order of their turn, on the threads of a cache."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from enum import IntEnum
from functools import partial

from pgflow_starter.threads.cache import ThreadCache, ThreadsClosedError, call_logged, logger


class Turn(IntEnum):
    """Which calls go first in a lane: those that go on with what has begun, that begin, that may come later."""

    GOES_ON = 0
    BEGINS = 1
    LATER = 2


LATER_SHARE = 8
"""Of so many places of a lane one is kept for calls that may be made later."""


class LaneCall:
    """One call of a lane."""

    __slots__ = ("call", "left", "turn")

    def __init__(self, call: Callable[[], object], turn: Turn = Turn.BEGINS) -> None:
        self.call = call
        self.turn = turn
        self.left = False


class Lane:
    """A queue in front of a ThreadCache that lets `width` calls run at a time, in order. Thread-safe.

    In order of their turn, then as they came. Those that may be made later get one place of eight, however many others
    there are, and all of them while there are none.
    """

    def __init__(self, threads: ThreadCache, width: int) -> None:
        self._threads = threads
        self._free = width
        self._lines: tuple[deque[LaneCall], ...] = tuple(deque() for _ in Turn)
        self._running = [0 for _ in Turn]
        self._kept = max(1, width // LATER_SHARE)
        self._lock = threading.Lock()
        self._closed = False

    def close(self) -> None:
        """From now on no call begins: those that wait do so until they leave. Does not wait, nor for a lock."""
        self._closed = True

    def run(self, call: Callable[[], object], turn: Turn = Turn.BEGINS) -> LaneCall:
        """Run the call when there is room. Raises RuntimeError when there is no thread; the call is dropped then."""
        return self.enter(LaneCall(call, turn))

    def enter(self, entry: LaneCall) -> LaneCall:
        """As `run`, for a call that is to `leave` by itself."""
        if self._closed:
            msg = "the lane is closed"
            raise ThreadsClosedError(msg)
        line = self._lines[entry.turn]
        with self._lock:
            if self._free > 0 and not any(self._lines):
                self._threads.run(partial(self._work, entry))
                self._free -= 1
                self._running[entry.turn] += 1
                return entry
            line.append(entry)
            try:
                self._pump()
            except RuntimeError:
                line.remove(entry)
                raise
        return entry

    def leave(self, entry: LaneCall) -> bool:
        """Give the place of a call away although it has not returned: it hangs, and others shall not wait for it.

        False when the call had not begun; then it never will. Raises RuntimeError when there is no thread for the
        next call: then this must be called again.
        """
        with self._lock:
            if not entry.left:
                entry.left = True
                line = self._lines[entry.turn]
                if entry in line:
                    line.remove(entry)
                    return False
                self._running[entry.turn] -= 1
                self._free += 1
            self._pump()
        return True

    def _pump(self) -> None:
        """Under the lock: a call that comes while a thread is asked for would find the place taken, for ever."""
        if self._free > 0 and self._line() is not None:
            self._threads.run(self._work)
            self._free -= 1

    def _line(self) -> deque[LaneCall] | None:
        """Under the lock: those of which the first is next, if any is."""
        if self._closed:
            return None
        *others, later = self._lines
        if later and (self._running[Turn.LATER] < self._kept or not (any(others) or any(self._running[: Turn.LATER]))):
            return later
        return next((line for line in others if line), None)

    def _next(self) -> LaneCall | None:
        """Under the lock: the next call, for this thread."""
        line = self._line()
        if line is None:
            return None
        entry = line.popleft()
        self._running[entry.turn] += 1
        with suppress(RuntimeError):  # this thread comes back for it
            self._pump()
        return entry

    def _work(self, entry: LaneCall | None = None) -> None:
        """Run this call, then those that wait, until there is none or until this thread's place was given away."""
        while True:
            if entry is None:
                with self._lock:
                    entry = self._next()
                    if entry is None:
                        self._free += 1
                        return
            call_logged(entry.call, logger)
            with self._lock:
                if entry.left:
                    return
                entry.left = True
                self._running[entry.turn] -= 1
            entry = None
