"""`Dispatcher`: a few threads on which many actors take turns."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from queue import SimpleQueue

from pgflow_starter.clock import Clock, Timers
from pgflow_starter.threads.cache import ThreadCache, call_logged

logger = logging.getLogger("pgflow_starter.actors")

WIDTH = 2
"""Threads, as long as none of them hangs."""

HANGS_AFTER = 0.2
"""Seconds after which a call counts as one that hangs; so often they are looked for."""


class Dispatcher:
    """Makes calls on its threads, in order. What a call raises is logged.

    For calls that do not wait. One that does all the same, for a log's disk or a tracer's network, delays no other for
    long: the threads that hang are made up for. Thread-safe, and putting takes no lock: a signal handler may put on
    top of whatever its thread was doing.
    """

    def __init__(self, threads: ThreadCache, timers: Timers, clock: Clock) -> None:
        self._threads = threads
        self._timers = timers
        self._clock = clock
        self._calls: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._count = 0
        self._since: dict[int, float] = {}
        self._watching = False
        self._closed = False

    def start(self) -> None:
        """Start the threads; until then the calls wait. Raises RuntimeError when there are none to be had."""
        self._grow(WIDTH)

    def put(self, call: Callable[[], object]) -> None:
        """Make the call soon; does not wait."""
        self._calls.put(call)

    def put_slow(self, call: Callable[[], object]) -> None:
        """Make a call that may take its time on a thread of its own; on this one where there is none to be had."""
        try:
            self._threads.run(call)
        except RuntimeError:
            call()

    def counts(self) -> tuple[int, int]:
        """How many threads it has, and how many of them are in a call."""
        return self._count, len(self._since)

    def close(self) -> None:
        """End the threads; whatever was put before is done first. Does not wait."""
        self._closed = True
        self._calls.put(None)

    def _grow(self, count: int) -> None:
        with self._lock:
            while self._count < count and not self._closed:
                self._threads.run(self._serve)
                self._count += 1

    def _serve(self) -> None:
        me = threading.get_ident()
        while (call := self._calls.get()) is not None:
            self._since[me] = self._clock.monotonic()
            if len(self._since) >= self._count:  # the next call has to wait for one of them
                self._watch()
            call_logged(call, logger)
            call = None  # an actor that has ended is not kept
            del self._since[me]
            if self._count > WIDTH and self._superfluous():
                return
        # Closed. For the next: a signal's exception may have kept one of them from being counted.
        self._calls.put(None)

    def _superfluous(self) -> bool:
        with self._lock:
            # Those that hang stay made up for, else the next call waits until `_look` comes round again.
            if self._closed or self._count - len(self._since) <= WIDTH or not self._calls.empty():
                return False
            self._count -= 1
            return True

    def _watch(self) -> None:
        if not self._watching:
            self._watching = True
            try:
                self._timers.after(HANGS_AFTER, self._look)
            except RuntimeError as error:  # no thread for the timers; the next call tries again
                self._watching = False
                logger.warning("nobody will see it when actors hang: %s", error)

    def _look(self) -> None:
        """On the timers' thread: make up for threads that hang while calls wait."""
        self._watching = False
        if not self._since:
            return
        self._watch()
        hung_since = self._clock.monotonic() - HANGS_AFTER
        hanging = sum(since <= hung_since for since in list(self._since.values()))
        if hanging and not self._calls.empty():
            try:
                self._grow(hanging + max(hanging, WIDTH))
            except RuntimeError as error:
                logger.warning("%d actors hang, and there is no thread for the others: %s", hanging, error)
