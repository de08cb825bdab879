"""`HousekeeperActor`: what the database holds as started by workers that died, or that know nothing of it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from pgflow_starter.clock import Clock, Timers
from pgflow_starter.core.classify import reason_for_logs
from pgflow_starter.core.said_once import SaidOnce
from pgflow_starter.core.task import Task
from pgflow_starter.core.trouble import TroubleKind
from pgflow_starter.errors import DatabaseError
from pgflow_starter.shutdown import Shutdown
from pgflow_starter.worker.cell import WorkerCell
from pgflow_starter.worker.heartbeat import Pulse
from pgflow_starter.worker.rhythmic import RhythmicActor
from pgflow_starter.worker.workers import Workers

logger = logging.getLogger("pgflow_starter.housekeeping")


class Tend:
    """Time to see to our own workers' tasks and ends."""


class Sweep:
    """Time to look for stalled tasks."""


class Look:
    """Time to look for what no claim will find."""


LOOK_INTERVAL = 2.0
"""Seconds between two of these: a module whose queue was purged is not ready within 15."""


class Rhythm(NamedTuple):
    """How often, in seconds; and how old a heartbeat is that makes its worker's tasks stalled."""

    heartbeat: float
    recovery: float
    stale: float


class HousekeeperActor(RhythmicActor):
    """One per starter: a few statements, however many workers."""

    thread_name = "pgflow-housekeeper"

    def __init__(
        self,
        workers: Workers,
        clock: Clock,
        timers: Timers,
        rhythm: Rhythm,
        pulse: Pulse,
        shutdown: Shutdown,
    ) -> None:
        super().__init__(timers)
        self._clock = clock
        self._pulse = pulse
        self._sweep_from = 0.0
        self._tending, self._reconciling, self._sweeping, self._looking = SaidOnce(), SaidOnce(), SaidOnce(), SaidOnce()
        self._workers = workers
        self._rhythm = rhythm
        self._shutdown = shutdown

    def on_start(self) -> None:
        self.again(self._rhythm.heartbeat, Tend())
        self.again(self._rhythm.recovery, Sweep())
        self.again(LOOK_INTERVAL, Look())

    def on_receive(self, message: Any) -> None:
        match message:
            case Tend():
                self._carry_out(self._tend, self._tending)
                self.again(self._rhythm.heartbeat, message)
            case Sweep() | Look() if self._shutdown.begun:
                return  # nobody's claims or troubles matter any more, and its own end must not wait for it
            case Sweep():
                self._carry_out(self._reconcile, self._reconciling)
                self._carry_out(self._sweep, self._sweeping)
                self.again(self._rhythm.recovery, message)
            case Look():
                self._carry_out(self._look, self._looking)
                self.again(LOOK_INTERVAL, message)
            case _:
                super().on_receive(message)

    def _tend(self) -> None:
        cells = self._workers.cells()
        ids = [worker_id for cell in cells for worker_id in cell.worker_ids]
        if ids:
            self._workers.store.keep_young(ids)
        self._each(cells, self._tend_one)

    def _tend_one(self, cell: WorkerCell) -> None:
        for worker_id in cell.former:
            if worker_id not in cell.leaving and not self._workers.store.started_by([worker_id]):
                cell.leaving.append(worker_id)
        # What the database holds for it and it does not know is nobody's when it is gone.
        if (
            not cell.has_left
            and cell.drained
            and cell.worker_id not in cell.leaving
            and cell.claims.give_back_unknown()
        ):
            cell.leaving.append(cell.worker_id)

    def _look(self) -> None:
        cells = {cell.definition.slug: cell for cell in self._workers.cells() if not cell.draining}
        if not cells:
            return
        lost = {slug: cell.claim_troubles.lost for slug, cell in cells.items() if cell.claim_troubles.lost}
        doubted = {
            slug: cell.claim_troubles.refused
            for slug, cell in cells.items()
            if cell.troubles.of(TroubleKind.UNSTARTED) is not None
        }
        try:
            found = self._workers.store.evidence(list(cells), lost, doubted)
        except DatabaseError as error:
            if not error.connection_lost:
                for cell in cells.values():
                    cell.claims.poll_soon()  # each finds out whether it can do its work
            raise
        for slug, cell in cells.items():
            if cell.claim_troubles.heed(found[slug]):
                cell.claims.poll_soon()

    def _reconcile(self) -> None:
        """Give back what the database holds for our workers and they know nothing of."""
        cells = {worker_id: cell for cell in self._workers.cells() for worker_id in cell.worker_ids}
        if not cells:
            return
        held: dict[WorkerCell, list[Task]] = {}
        for worker_id, task in self._workers.store.started_by(list(cells)):
            held.setdefault(cells[worker_id], []).append(task)
        self._each(list(dict.fromkeys(cells.values())), lambda cell: cell.reconcile(held.get(cell, ())))

    def _each(self, cells: Sequence[WorkerCell], duty: Callable[[WorkerCell], object]) -> None:
        """For each, also where that of another fails, until the starter stops. Raises the last DatabaseError."""
        last: DatabaseError | None = None
        for cell in cells:
            if self._shutdown.begun:
                return  # their ends see to it
            try:
                duty(cell)
            except DatabaseError as error:
                last = error
        if last is not None:
            raise last

    def _sweep(self) -> None:
        # After an outage nobody has been heard of for as long as it lasted: everybody gets the time to say so first.
        if self._clock.monotonic() < max(self._sweep_from, self._pulse.failed_at + self._rhythm.stale):
            return
        cells = self._workers.cells()
        if not cells:
            return
        slugs = [cell.definition.slug for cell in cells]
        own = [worker_id for cell in cells for worker_id in cell.worker_ids]
        recovered = self._workers.store.recover_stalled(slugs, own, self._rhythm.stale, self._workers.tell_ended)
        if recovered:
            logger.warning("%d tasks of workers that died were recovered", recovered)
            self._workers.database_back()

    def _carry_out(self, duty: Callable[[], None], failing: SaidOnce) -> None:
        try:
            duty()
        except DatabaseError as error:
            if error.connection_lost:
                self._sweep_from = self._clock.monotonic() + self._rhythm.stale
            said = reason_for_logs(error)
            # An outage is logged where it was found.
            quiet = error.connection_lost or self._shutdown.begun or not failing.note(said)
            logger.log(logging.DEBUG if quiet else logging.WARNING, "housekeeping: %s", said)
        else:
            if failing.clear():
                logger.info("housekeeping goes well again")
