"""`Lane`: so many calls at a time, in order of their turn, on the threads of a cache."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from enum import IntEnum
from functools import partial

from pgflow_starter.threads.cache import ThreadCache, ThreadsClosedError

logger = logging.getLogger("pgflow_starter.threads")


class Turn(IntEnum):
    """Who goes first in a lane: what goes on with something that has begun, what begins, what may be made later."""

    GOES_ON = 0
    BEGINS = 1
    LATER = 2


LATER_SHARE = 8
"""Of so many places of a lane one is kept for calls that may be made later."""


class LanePlace:
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
        self._lines: tuple[deque[LanePlace], ...] = tuple(deque() for _ in Turn)
        self._running = [0 for _ in Turn]
        self._kept = max(1, width // LATER_SHARE)
        self._lock = threading.Lock()
        self._closed = False

    def close(self) -> None:
        """From now on no call begins: those that wait do so until they leave. Waits for nobody, nor for a lock."""
        self._closed = True

    def run(self, call: Callable[[], object], turn: Turn = Turn.BEGINS) -> LanePlace:
        """Run the call when there is room. Raises RuntimeError when there is no thread; the call is dropped then."""
        return self.enter(LanePlace(call, turn))

    def enter(self, place: LanePlace) -> LanePlace:
        """As `run`, for a call that is to leave its own place."""
        if self._closed:
            msg = "the lane is closed"
            raise ThreadsClosedError(msg)
        line = self._lines[place.turn]
        with self._lock:
            if self._free > 0 and not any(self._lines):
                self._threads.run(partial(self._work, place))
                self._free -= 1
                self._running[place.turn] += 1
                return place
            line.append(place)
            try:
                self._pump()
            except RuntimeError:
                line.remove(place)
                raise
        return place

    def leave(self, place: LanePlace) -> bool:
        """Give the place of a call away although it has not returned: it hangs, and others shall not wait for it.

        False when the call had not begun; then it never will. Raises RuntimeError when there is no thread for who comes
        next: then somebody must call it again.
        """
        with self._lock:
            if not place.left:
                place.left = True
                line = self._lines[place.turn]
                if place in line:
                    line.remove(place)
                    return False
                self._running[place.turn] -= 1
                self._free += 1
            self._pump()
        return True

    def _pump(self) -> None:
        """Under the lock: who comes while a thread is asked for would take the place for taken, and wait for ever."""
        if self._free > 0 and self._line() is not None:
            self._threads.run(self._work)
            self._free -= 1

    def _line(self) -> deque[LanePlace] | None:
        """Under the lock: whose turn it is, if anybody's."""
        if self._closed:
            return None
        *others, later = self._lines
        if later and (self._running[Turn.LATER] < self._kept or not (any(others) or any(self._running[: Turn.LATER]))):
            return later
        return next((line for line in others if line), None)

    def _next(self) -> LanePlace | None:
        """Under the lock: the next call, for this thread."""
        line = self._line()
        if line is None:
            return None
        place = line.popleft()
        self._running[place.turn] += 1
        with suppress(RuntimeError):  # this thread comes back for it
            self._pump()
        return place

    def _work(self, place: LanePlace | None = None) -> None:
        """Run this call, then those that wait, until there is none or until this thread's place was given away."""
        while True:
            if place is None:
                with self._lock:
                    place = self._next()
                    if place is None:
                        self._free += 1
                        return
            try:
                place.call()
            except BaseException:
                logger.exception("a call on %s raised", threading.current_thread().name)
            with self._lock:
                if place.left:
                    return
                place.left = True
                self._running[place.turn] -= 1
            place = None
