"""`QueueWatch`: how much waits in the queues, read while somebody asks."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from pgflow_starter.clock import Clock, Timers
from pgflow_starter.core.classify import reason_for_logs
from pgflow_starter.core.readings import QueueDepth
from pgflow_starter.core.said_once import SaidOnce
from pgflow_starter.errors import PgflowError
from pgflow_starter.threads.cache import ThreadCache, run_patiently

if TYPE_CHECKING:
    from pgflow_starter.ports import QueueDepthStore

logger = logging.getLogger("pgflow_starter.housekeeping")

INTERVAL = 15.0
"""Seconds between two readings, at least."""

PAUSE = 99.0
"""Times as long as a reading took until the next: a hundredth of a session's time, however many queues there are."""

ASKED_WITHIN = 600.0
"""Seconds after which nobody asks any more."""


class QueueWatch:
    """One per starter, and each process reads for itself: all of them may be asked. Thread-safe; never waits.

    `queues` are those to be read; `away` tells an outage.
    """

    def __init__(
        self,
        store: QueueDepthStore,
        queues: Callable[[], Sequence[str]],
        clock: Clock,
        timers: Timers,
        threads: ThreadCache,
        away: Callable[[], bool],
    ) -> None:
        self._store = store
        self._queues = queues
        self._clock = clock
        self._timers = timers
        self._threads = threads
        self._away = away
        self._watching = threading.Lock()  # held from the first reading to the last, and by nobody waited for
        self._asked_at = clock.monotonic()
        self._last: Sequence[QueueDepth] = ()
        self._failing = SaidOnce()

    def depths(self) -> Sequence[QueueDepth]:
        """The last reading, a quarter of a minute old at most; none before the first, and while reading fails.

        The first one begins with the first call, on a thread.
        """
        self._asked_at = self._clock.monotonic()
        if self._watching.acquire(blocking=False):
            self._come()
        return self._last

    def _come(self) -> None:
        run_patiently(self._threads, self._timers, self._read)

    def _read(self) -> None:
        began = self._clock.monotonic()
        if began - self._asked_at > ASKED_WITHIN:
            self._last = ()
            self._watching.release()
            return
        try:
            self._last = self._found()
        finally:
            self._timers.after(max(INTERVAL, PAUSE * (self._clock.monotonic() - began)), self._come)

    def _found(self) -> Sequence[QueueDepth]:
        queues = [] if self._away() else self._queues()
        if not queues:
            return ()
        try:
            found = self._store.depths(queues)
        except PgflowError as error:
            said = reason_for_logs(error)
            lost = getattr(error, "connection_lost", False)  # an outage is logged where it was found
            quiet = lost or not self._failing.note(said)
            logger.log(logging.DEBUG if quiet else logging.WARNING, "counting what waits in queues: %s", said)
            return ()
        if self._failing.clear():
            logger.info("counting what waits in queues goes well again")
        return found
