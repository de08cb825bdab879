"""`Lookout`: one look into the queues of many workers, for those with no reason to expect something in theirs.

A claim costs the server as much when the queue is empty. With a thousand idle workers that is most of what they cost.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Protocol
from uuid import UUID

from pgflow_starter.clock import Timers
from pgflow_starter.threads.cache import call_logged
from pgflow_starter.threads.gatherer import Batch, Gatherer
from pgflow_starter.threads.lane import Lane, Turn

if TYPE_CHECKING:
    from pgflow_starter.ports import TaskStore

logger = logging.getLogger("pgflow_starter.workers")

GATHERING = 0.02
"""Seconds at most that a worker which asks waits for others to ask as well."""

TELLING = "telling a worker what was seen in its queue"
"""What it makes of it is no business of the others': they have asked, and will not ask again."""

QUEUES_A_SECOND = 1000
"""Queues at most into which a process looks: where many workers are quick at a time, each is a little less so."""


class Looking(Protocol):
    """A worker that waits for a look."""

    @property
    def wired_as(self) -> tuple[UUID, str]:
        """The worker's id and its flow."""

    def poll_soon(self) -> None:
        """There is something to claim, or nobody knows."""

    def saw_nothing(self, visible_in: float | None) -> None:
        """There is nothing to claim yet; in so many seconds, where it is known."""

    def no_thread(self, error: RuntimeError) -> None:
        """There is no thread that could look."""


class Lookout:
    """Of all workers of a starter. Thread-safe; does not wait."""

    def __init__(self, store: TaskStore, lane: Lane, timers: Timers, least_interval: float) -> None:
        self._store = store
        self._timers = timers
        self._gathering = min(GATHERING, least_interval / 10)
        self.gatherer: Gatherer[Looking] = Gatherer(lane, self._look, Turn.LATER)
        self._lock = threading.Lock()
        self._expected = False
        self._seen = 0

    def look_for(self, worker: Looking) -> None:
        """Tell the worker soon; one look serves all that ask until it begins."""
        self.gatherer.add(worker)
        self._expect()

    def _expect(self) -> None:
        with self._lock:
            if self._expected or not self.gatherer.counts().waiting:
                return
            self._expected = True
        try:
            self._timers.after(max(self._gathering, self._seen / QUEUES_A_SECOND), self._come)
        except RuntimeError:  # no thread for the timers; the worker that asks next tries again
            self._expected = False
            raise

    def _come(self) -> None:
        with self._lock:
            self._expected = False
        try:
            self.gatherer.pump()
        except RuntimeError as error:
            for worker in self.gatherer.drop_all():
                call_logged(partial(worker.no_thread, error), logger, TELLING)

    def _look(self, batch: Batch[Looking]) -> None:
        self._seen = len(batch.items)
        seen: Sequence[float | None] = ()
        if self._seen > 1:  # else it claims at once
            with suppress(Exception):  # each finds out by itself what is wrong with its own
                seen = self._store.look([worker.wired_as for worker in batch.items])
        for worker, visible_in in zip(batch.items, seen or [0.0] * len(batch.items), strict=True):
            if visible_in is None or visible_in > 0:
                call_logged(partial(worker.saw_nothing, visible_in), logger, TELLING)
            else:
                call_logged(worker.poll_soon, logger, TELLING)
        self.gatherer.end(batch)
        self._expect()
