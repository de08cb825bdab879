"""`HousekeeperActor`: the heartbeats of all workers of this process, and the sweep for tasks whose worker died."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pykka

from pgflow_starter.actors.base import Actor
from pgflow_starter.core.classify import reason_for_logs
from pgflow_starter.core.dataclass import dataclass
from pgflow_starter.core.news import News
from pgflow_starter.errors import DatabaseError
from pgflow_starter.ports import Clock, TaskStore, Timers
from pgflow_starter.worker.workers import Workers

logger = logging.getLogger("pgflow_starter.housekeeping")

DEPRECATED = (
    "the worker was deprecated in the database (deprecated_at in pgflow.workers): it has finished its tasks and"
    " stopped; retry_now starts another"
)


@dataclass(frozen=True, slots=True)
class Beat:
    """Time for heartbeats."""


@dataclass(frozen=True, slots=True)
class Sweep:
    """Time to look for stalled tasks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rhythm:
    """How often, in seconds; and how old a heartbeat is that makes its worker's tasks stalled."""

    heartbeat: float
    recovery: float
    stale: float


class HousekeeperActor(Actor):
    """One per starter: two statements, however many workers.

    `retired(slug, reason)` is told of a worker that was deprecated, has finished its tasks and stopped.
    """

    thread_name = "pgflow-housekeeper"

    def __init__(
        self,
        workers: Workers,
        store: TaskStore,
        clock: Clock,
        timers: Timers,
        rhythm: Rhythm,
        retired: Callable[[str, str], object],
    ) -> None:
        super().__init__()
        self._retired = retired
        self._clock = clock
        self._sweep_from = 0.0
        self._not_beating, self._not_sweeping = News(), News()
        self._workers = workers
        self._store = store
        self._timers = timers
        self._rhythm = rhythm

    def on_start(self) -> None:
        self._again(self._rhythm.heartbeat, Beat())
        self._again(self._rhythm.recovery, Sweep())

    def on_receive(self, message: Any) -> None:
        match message:
            case Beat():
                self._tell_database(self._beat, self._not_beating)
                self._again(self._rhythm.heartbeat, message)
            case Sweep():
                self._tell_database(self._sweep, self._not_sweeping)
                self._again(self._rhythm.recovery, message)
            case _:
                super().on_receive(message)

    def _beat(self) -> None:
        cells = [c for c in self._workers.cells() if not c.retired]
        if not cells:
            return
        deprecated = self._store.heartbeat([(c.worker_id, c.definition.slug) for c in cells])
        for cell in cells:
            if cell.drained:
                self._store.worker_stopped(cell.worker_id)
                cell.retired = True
                self._retired(cell.definition.slug, DEPRECATED)
            elif cell.worker_id in deprecated and not cell.draining:
                cell.draining = True
                cell.log.warning("the worker is deprecated in the database: it claims no more")

    def _sweep(self) -> None:
        # After an outage nobody has been heard of for as long as it lasted: everybody gets the time to say so first.
        if self._clock.monotonic() < self._sweep_from:
            return
        cells = self._workers.cells()
        if not cells:
            return
        slugs, own = [c.definition.slug for c in cells], [c.worker_id for c in cells]
        recovered = self._store.recover_stalled(slugs, own, self._rhythm.stale)
        if recovered:
            logger.warning("%d tasks of workers that died were recovered", recovered)
            self._workers.database_back()

    def _tell_database(self, duty: Callable[[], None], failing: News) -> None:
        try:
            duty()
        except DatabaseError as error:
            self._sweep_from = self._clock.monotonic() + self._rhythm.stale
            said = reason_for_logs(error)
            # An outage is told by who found it.
            quiet = error.connection_lost or not failing.says(said)
            logger.log(logging.DEBUG if quiet else logging.WARNING, "housekeeping: %s", said)
        else:
            if failing.over():
                logger.info("housekeeping goes well again")

    def _again(self, delay: float, message: object) -> None:
        ref = self.actor_ref

        def tell() -> None:
            try:
                ref.tell(message)
            except pykka.ActorDeadError:
                return

        self._timers.after(delay, tell)
