"""`WorkerActor`: sees to it that the queue of one flow or job is polled, for as long as it lives.

It never waits for the database: threads of the cache claim tasks for its free slots, run them and write their outcomes,
and tell it how claiming went. What must survive its crash is on its `WorkerCell`.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from pgflow_starter.clock import Timer
from pgflow_starter.core.classify import places, reason_for_logs
from pgflow_starter.core.task import Claimed, Task
from pgflow_starter.errors import DatabaseError, UnknownFlowError
from pgflow_starter.supervision.dispatched import DispatchedActor
from pgflow_starter.worker.cell import WorkerCell
from pgflow_starter.worker.claims import Cause
from pgflow_starter.worker.messages import PollDue, Polled
from pgflow_starter.worker.world import WorkerWorld

CLAIM_PATIENCE = 5.0
"""Seconds that the end of a worker waits for a claim under way, which is interrupted by then."""

LOCKED_PATIENCE = 1.0
"""Seconds that the end of a worker waits for somebody's lock on a task that is to be given back."""

PARKED_PATIENCE = 5.0
"""Seconds that it waits for what is parked to be written, within the shutdown's deadline."""

PARKED_PAUSE = 0.1
"""Seconds between two tries."""

TROUBLED_PAUSE = 1.0
"""Seconds at most until what was refused is tried again: its end shall be found soon."""

SHOWN = 5
"""Tasks that are named where they are given back."""


class WorkerActor(DispatchedActor):
    """One per registered module."""

    def __init__(self, cell: WorkerCell, world: WorkerWorld) -> None:
        self._cell = cell
        self._world = world
        self._token = 0
        self._interval = 0.0
        self._timer: Timer | None = None
        self._lost = False
        self._terminated = False
        super().__init__(world.dispatcher)

    def on_start(self) -> None:
        self._cell.adopt(self.actor_ref)

    def on_receive(self, message: Any) -> None:
        match message:
            case PollDue(token):
                if token == self._token:
                    self._cell.claims.poll_soon(Cause.DUE)
            case Polled(claimed, error):
                self._polled(claimed, error)
            case _:
                super().on_receive(message)

    @property
    def stops_slowly(self) -> bool:
        return self._terminated and (self._cell.busy or self._cell.held.unsure)

    def cancel(self) -> None:
        self._terminated = True
        self._cell.stop_claiming()

    def on_stop(self) -> None:
        """Let running tasks end until the shutdown's deadline, then give back what still runs.

        Only when the supervisor ends the worker: one that somebody else stopped is started again at once, and its
        successor finds the tasks on the cell. That it has stopped, or why that could not be written, its supervisor
        says, of all together.
        """
        cell, world = self._cell, self._world
        if not self._terminated:
            return
        cell.claims.wait(CLAIM_PATIENCE)
        cell.flights.wait_empty(world.clock, lambda: world.shutdown.deadline)
        left = cell.flights.surrender()
        written = cell.outbox.flush(wait=True)
        until = world.clock.monotonic() + PARKED_PATIENCE
        while not written and cell.outbox.parked and world.clock.monotonic() < min(until, world.shutdown.deadline):
            cell.flights.pause(PARKED_PAUSE)
            written = cell.outbox.flush(wait=True)
        unwritten = cell.outbox.tasks()
        try:
            # Those that another thread is giving back, too: it may fail, or be too late.
            self._give_back(left + unwritten + cell.held.returning())
            if cell.held.unsure:
                cell.held.give_back_unknown()
            cell.ended = True
        except DatabaseError as error:
            cell.unsaid = reason_for_logs(error)
        becomes = "are given back" if cell.ended else "go to others when this worker counts as dead"
        if unwritten:
            cell.log.error("%d outcomes could not be written: their tasks %s", len(unwritten), becomes)
        if left:
            steps = ", ".join(sorted({f"step {t.step_slug} of run {t.run_id}" for t in left})[:SHOWN])
            cell.log.warning("%d tasks did not end in time and %s: %s", len(left), becomes, steps)

    def _give_back(self, tasks: list[Task]) -> None:
        """What somebody has locked for a moment is tried again for as long. Raises DatabaseError."""
        cell, world = self._cell, self._world
        until = world.clock.monotonic() + LOCKED_PATIENCE
        while tasks:
            given = set().union(*(world.store.give_back(worker_id, tasks) for worker_id in cell.worker_ids))
            tasks = [task for task in tasks if task.key not in given]
            held = {task.key for _, task in world.store.started_by(cell.worker_ids)}
            tasks = [task for task in tasks if task.key in held]
            if tasks and world.clock.monotonic() >= until:
                cell.log.warning("%d of them are locked by somebody: others take them when we are dead", len(tasks))
                return
            if tasks:
                cell.flights.pause(PARKED_PAUSE)

    def _polled(self, claimed: Claimed | None, error: BaseException | None) -> None:
        cell, policy = self._cell, self._world.policy
        if cell.stopping:
            return
        if claimed is not None:
            self._lost = False
            if cell.failing.clear():
                cell.log.info("polling goes well again")
            since_work = self._world.clock.monotonic() - cell.claims.worked_at
            self._interval = policy.after(since_work, 0.0 if claimed.read else self._interval)
            if claimed.barred:
                self._interval = min(self._interval, TROUBLED_PAUSE)
        elif isinstance(error, UnknownFlowError):
            if cell.claims.unwired:
                raise error  # dies, so that its module registers again, from the worker phase on
        else:
            self._failed(error)
        self._token += 1
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._world.timers.after(self._interval, partial(cell.tell, PollDue(self._token)))

    def _failed(self, error: BaseException | None) -> None:
        """The database's fault, or ours, or one message's: another worker would meet it as well, so this one lives."""
        cell = self._cell
        self._interval = self._world.policy.after_error(self._interval)
        lost = isinstance(error, DatabaseError) and error.connection_lost
        slow = isinstance(error, DatabaseError) and error.timed_out
        if (lost and not self._lost) or slow:
            # The database may be there: the next connection waits until that is known. Or a smaller claim goes well.
            cell.claims.poll_soon()
        self._lost = lost
        if not lost:
            self._interval = min(self._interval, TROUBLED_PAUSE)
        if isinstance(error, DatabaseError):
            # An outage is logged where it was found, all else by the cell.
            cell.log.debug("polling: %s", reason_for_logs(error))
        elif error is not None:
            said = f"{reason_for_logs(error)} {places(error)}"
            (cell.log.error if cell.failing.note(said) else cell.log.debug)("polling: %s", said)
