"""`Gatherer`: those that wait are served together, so many at a time, in places of the lane."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from itertools import islice
from typing import Generic, NamedTuple, TypeVar

from pgflow_starter.threads.cache import call_logged, logger
from pgflow_starter.threads.interrupt_scope import InterruptScope
from pgflow_starter.threads.lane import Lane, LaneCall, Turn

T = TypeVar("T")

MOST = 64
"""Served at a time: those behind would wait too long."""

WIDTH = 2
"""Batches at a time: one of them waits for the database, or hangs, while the other is worked upon here."""


class Batch(Generic[T]):
    """Those that are served together in a place of the lane, and then the next in the same place."""

    __slots__ = ("entry", "items", "left", "scope", "staying")

    def __init__(self) -> None:
        self.entry: LaneCall
        self.items: tuple[T, ...] = ()
        self.staying: set[T] = set()
        self.scope = InterruptScope()
        self.left = False


class Counts(NamedTuple):
    """How many wait, how many are being served, and in how many places of the lane."""

    waiting: int
    served: int
    places: int


class Gatherer(Generic[T]):
    """An item that comes while others are served waits, and is then served with all that wait. Thread-safe.

    A batch that takes too long delays no item but its own. What `serve` raises is logged.
    """

    def __init__(self, lane: Lane, serve: Callable[[Batch[T]], object], turn: Turn = Turn.BEGINS) -> None:
        self._lane = lane
        self._serve = serve
        self._turn = turn
        self._lock = threading.RLock()
        self._waiting: dict[T, None] = {}
        self._batches: dict[T, Batch[T]] = {}
        self._places = 0

    def counts(self) -> Counts:
        """As it is now."""
        return Counts(len(self._waiting), len(self._batches), self._places)

    def add(self, item: T) -> None:
        """Let it wait, until somebody calls `pump` or a batch has ended."""
        with self._lock:
            self._waiting[item] = None

    def enter(self, item: T) -> None:
        """Serve it when there is room. Raises RuntimeError when there is no thread; the item is dropped then."""
        with self._lock:
            self.add(item)
            try:
                self.pump()
            except RuntimeError:
                del self._waiting[item]
                raise

    def drop_all(self) -> tuple[T, ...]:
        """Those that wait, which will not be served."""
        with self._lock:
            dropped = tuple(self._waiting)
            self._waiting.clear()
        return dropped

    def leave(self, item: T, last_left: Callable[[InterruptScope], object]) -> bool:
        """Give its place away, to others. False when it was not served yet: then it never will be.

        The last one to leave its batch is told so by `last_left`, with what interrupts the batch. Raises RuntimeError
        when there is no thread for those that wait: then it must be called again.
        """
        with self._lock:
            if item in self._waiting:
                del self._waiting[item]
                return False
            batch = self._batches.get(item)
            if batch is None:
                self.pump()
                return True
            batch.staying.discard(item)
            was_last = not batch.staying
            self.end(batch)
            self.pump()
        self._lane.leave(batch.entry)
        if was_last:  # by all: one that has to stop is no reason for the others to fail
            last_left(batch.scope)
        return True

    def end(self, batch: Batch[T]) -> None:
        """Serve no others in the batch's place."""
        with self._lock:
            if not batch.left:
                batch.left = True
                self._places -= 1

    def pump(self) -> None:
        """Serve those that wait, if there is room. Raises RuntimeError when there is no thread."""
        with self._lock:
            if self._waiting and self._places < WIDTH:
                batch: Batch[T] = Batch()
                batch.entry = LaneCall(partial(self._serve_in, batch), self._turn)
                self._lane.enter(batch.entry)
                self._places += 1

    def _serve_in(self, batch: Batch[T]) -> None:
        while self._filled(batch):
            call_logged(partial(self._serve, batch), logger)  # whatever it raises, the next are served in this place
            with self._lock:
                for item in batch.items:
                    if self._batches.get(item) is batch:  # it may have come again, and be in another by now
                        del self._batches[item]

    def _filled(self, batch: Batch[T]) -> bool:
        with self._lock:
            if batch.left:
                return False
            batch.items = tuple(islice(self._waiting, MOST))
            batch.scope, batch.staying = InterruptScope(), set(batch.items)
            for item in batch.items:
                del self._waiting[item]
                self._batches[item] = batch
            if not batch.items:
                self.end(batch)
        return bool(batch.items)
