"""`HeartbeatActor`: says in the database that the workers of this process are alive, and waits for nothing else."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from pgflow_starter.clock import Clock, Timers
from pgflow_starter.core.classify import error_type, reason_for_logs
from pgflow_starter.core.heard import Heard
from pgflow_starter.core.said_once import SaidOnce
from pgflow_starter.core.trouble import TroubleKind, with_remedy
from pgflow_starter.errors import DatabaseError
from pgflow_starter.shutdown import Shutdown
from pgflow_starter.worker.cell import WorkerCell
from pgflow_starter.worker.rhythmic import RhythmicActor
from pgflow_starter.worker.workers import Workers

logger = logging.getLogger("pgflow_starter.housekeeping")


DEPRECATED = (
    "the worker was deprecated in the database (deprecated_at in pgflow.workers): it has finished its tasks and"
    " stopped; retry_now starts another"
)


class Beat:
    """Time for heartbeats."""


class Pulse:
    """When the heart last failed to beat (monotonic clock): then nobody may have been heard of for a while."""

    def __init__(self) -> None:
        self.failed_at = float("-inf")


class HeartbeatActor(RhythmicActor):
    """One per starter: one statement, however many workers, over a connection that nobody else may have.

    It says as well that workers have stopped, for nobody is to hear of them afterwards. `retired(slug, reason)` is
    called for one that was deprecated and has finished its tasks.
    """

    thread_name = "pgflow-heartbeat"

    def __init__(
        self,
        workers: Workers,
        clock: Clock,
        timers: Timers,
        interval: float,
        pulse: Pulse,
        retired: Callable[[str, str], object],
        shutdown: Shutdown,
    ) -> None:
        super().__init__(timers)
        self._workers = workers
        self._clock = clock
        self._interval = interval
        self._pulse = pulse
        self._retired = retired
        self._shutdown = shutdown
        self._failing = SaidOnce()

    def on_start(self) -> None:
        self.again(self._interval, Beat())

    def on_receive(self, message: Any) -> None:
        match message:
            case Beat():
                # First: the next is due by the clock, however long this one takes.
                self.again(self._interval, message)
                self._beat()
            case _:
                super().on_receive(message)

    def _beat(self) -> None:
        cells = self._workers.cells()
        ids = [worker_id for cell in cells for worker_id in cell.worker_ids if worker_id not in cell.leaving]
        try:
            heard = self._workers.store.heartbeat(ids, self._workers.runs_under_way()) if ids else Heard()
            if heard.ended:
                self._workers.runs_ended(heard.ended)
            self._let_leave(cells)
        except DatabaseError as error:
            if self._shutdown.begun:
                return
            self._pulse.failed_at = self._clock.monotonic()
            said = reason_for_logs(error)
            # An outage is logged where it was found.
            quiet = error.connection_lost or not self._failing.note(said)
            logger.log(logging.DEBUG if quiet else logging.WARNING, "heartbeats: %s", said)
            if not (error.connection_lost or error.locked or error.timed_out):
                self._begin_unheard(cells, error)
            return
        for cell in cells:
            cell.troubles.end(TroubleKind.UNHEARD)
        if self._failing.clear():
            logger.info("heartbeats go well again")
        for cell in cells:
            # One that stops says so in the very same way on the older cores.
            if cell.worker_id in heard.deprecated and not cell.draining and not cell.stopping:
                cell.draining = True
                cell.log.warning("the worker is deprecated in the database: it claims no more")

    def _begin_unheard(self, cells: Sequence[WorkerCell], error: DatabaseError) -> None:
        kind = error_type(error)
        said = f"heartbeats are refused, so that others take its tasks for a dead worker's: {reason_for_logs(error)}"
        for cell in cells:
            cell.troubles.begin(TroubleKind.UNHEARD, with_remedy(said, kind), error_type=kind)

    def _let_leave(self, cells: Sequence[WorkerCell]) -> None:
        leaving = [(cell, worker_id) for cell in cells for worker_id in list(cell.leaving)]
        if leaving:
            self._workers.store.workers_stopped([worker_id for _, worker_id in leaving])
        for cell, worker_id in leaving:
            if cell.record_stopped(worker_id):
                self._retired(cell.definition.slug, DEPRECATED)
