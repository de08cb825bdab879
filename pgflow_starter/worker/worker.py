"""`WorkerActor`: polls the queue of one flow or job, claims tasks for its free slots and has them run.

It claims on its own thread and never beyond its free slots; handlers run on threads of the cache, and their outcomes
are written by those. What must survive its crash (tasks under way, outcomes not yet written, the worker's id) is on its
`WorkerCell`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import uuid4

import pykka

from pgflow_starter.actors.base import Actor
from pgflow_starter.actors.phase_job import PhaseScope
from pgflow_starter.actors.threads import ThreadCache
from pgflow_starter.core.definition import FlowDefinition
from pgflow_starter.core.state import SignalStrategy
from pgflow_starter.core.task import Outcome, OutcomeKind, Task
from pgflow_starter.errors import DatabaseError, UnknownFlowError
from pgflow_starter.ports import Clock, TaskStore, Timers
from pgflow_starter.worker.execution import execute, failed
from pgflow_starter.worker.flights import Flight, Flights
from pgflow_starter.worker.outbox import Outbox
from pgflow_starter.worker.polling import PollPolicy, dependents_delays, retry_delay, root_delays

logger = logging.getLogger("pgflow_starter.workers")

VISIBLE_MARGIN = 0.01
"""Seconds after a message becomes visible that it is looked for."""


@dataclass(frozen=True, slots=True)
class Poll:
    """Look into the queue now."""


@dataclass(frozen=True, slots=True)
class Wake:
    """A notification came: poll now, and once more when the throttle has passed."""


@dataclass(frozen=True, slots=True)
class PollDue:
    """The timer of the last poll fired; stale unless it carries the newest token."""

    token: int


@dataclass(frozen=True, slots=True)
class Landed:
    """A task's slot is free."""


@dataclass(slots=True)
class Shutdown:
    """Until when (monotonic clock) running tasks may end once the starter stops."""

    deadline: float = 0.0


@dataclass(frozen=True, slots=True)
class WorkerWorld:
    """What the workers of a starter share."""

    store: TaskStore
    clock: Clock
    timers: Timers
    threads: ThreadCache
    policy: PollPolicy
    batch_size: int
    shutdown: Shutdown


class WorkerCell:
    """What belongs to one worker and outlives each incarnation of its actor. Thread-safe where others use it."""

    def __init__(self, definition: FlowDefinition, slots: int, world: WorkerWorld) -> None:
        self.worker_id = uuid4()
        self.definition = definition
        self.slots = slots
        self.flights = Flights()
        self.outbox = Outbox(world.store, self._settled, self._stuck)
        self.ref: pykka.ActorRef[Any] | None = None
        self.poll_asked = False
        self.claims_unsure = False
        self.unwired = False
        self.draining = False
        self._world = world

    def tell(self, message: object) -> None:
        """Send to the current incarnation; lost on a dead one, whose successor polls anyway."""
        if self.ref is not None:
            try:
                self.ref.tell(message)
            except pykka.ActorDeadError:
                return

    def later(self, delay: float, message: object) -> None:
        """Send it in `delay` seconds."""
        self._world.timers.after(delay, partial(self.tell, message))

    def wire(self) -> None:
        """The flow and the worker are in the database: it may poll. Before its actor is started, or after."""
        self.unwired = False
        self.poll_soon()

    def retire(self) -> None:
        """The worker has stopped, and said so in the database; one that is started after it is another."""
        self.worker_id = uuid4()
        self.draining = False

    def wake(self) -> None:
        """A notification came."""
        self.tell(Wake())

    def poll_soon(self) -> None:
        """Ask for a poll; one that waits in the mailbox serves all who ask."""
        if not self.poll_asked:
            self.poll_asked = True
            self.tell(Poll())

    def database_back(self) -> None:
        """The database is reachable again: write what waits, then poll."""
        if len(self.outbox):
            self._world.threads.run(self.outbox.flush)
        self.poll_soon()

    def _settled(self, outcomes: Sequence[Outcome]) -> None:
        """Poll when what these outcomes made visible is there: the next steps, or the task again."""
        delays: set[float] = set()
        for outcome in outcomes:
            step = self.definition.step(outcome.task.step_slug)
            if outcome.kind is OutcomeKind.COMPLETED:
                delays |= dependents_delays(self.definition, outcome.task.step_slug)
            elif outcome.kind is OutcomeKind.FAILED and step is not None:
                delay = retry_delay(self.definition, step, outcome.task.attempt)
                delays |= set() if delay is None else {delay}
        self.poll_in(delays)
        self.tell(Landed())

    def poll_in(self, delays: Iterable[float]) -> None:
        """Ask for a poll after each of the delays, in seconds."""
        for delay in delays:
            if delay > 0:
                self._world.timers.after(delay, self.poll_soon)
            else:
                self.poll_soon()

    def _stuck(self) -> None:
        self._world.timers.after(self._world.policy.least, lambda: self._world.threads.run(self.outbox.flush))


class WorkerActor(Actor):
    """One per registered module."""

    def __init__(self, cell: WorkerCell, world: WorkerWorld) -> None:
        super().__init__()
        self._cell = cell
        self._world = world
        self._token = 0
        self._interval = 0.0
        self._more = False
        self._lost = False
        self._terminated = False
        self._scope = PhaseScope()

    def name(self) -> str:
        return f"pgflow-worker-{self._cell.definition.slug}"

    def on_start(self) -> None:
        cell = self._cell
        # What a predecessor had claimed but not yet begun is known to nobody.
        cell.claims_unsure = cell.claims_unsure or cell.ref is not None
        cell.ref = self.actor_ref
        cell.poll_asked = False
        cell.poll_soon()

    def on_receive(self, message: Any) -> None:
        match message:
            case Poll():
                self._cell.poll_asked = False
                self._poll()
            case Wake():
                self._poll()
                self._cell.poll_in(root_delays(self._cell.definition))
                if self._world.policy.trailing is not None:
                    self._cell.poll_in([self._world.policy.trailing])
            case PollDue(token):
                if token == self._token:
                    self._poll()
            case Landed():
                if self._more:
                    self._poll()
            case _:
                super().on_receive(message)

    def cancel(self) -> None:
        self._terminated = True
        with suppress(RuntimeError):  # no thread to be had: the claim ends by itself
            self._world.threads.run(self._scope.cancel)

    def on_stop(self) -> None:
        """Let running tasks end until the shutdown's deadline, then give back what still runs.

        Only when the supervisor ends the worker: one that somebody else stopped is started again at once, and its
        successor finds the tasks on the cell.
        """
        cell, world = self._cell, self._world
        if not self._terminated:
            return
        cell.flights.wait_empty(world.clock, lambda: world.shutdown.deadline)
        left = [f.task for f in cell.flights.all() if f.land()]
        for flight in cell.flights.all():
            cell.flights.give_up(flight)
        try:
            if not cell.outbox.flush(wait=True):
                logger.error("%s: %d outcomes could not be written", cell.definition.slug, len(cell.outbox))
            if left:
                logger.warning("%s: %d tasks did not end in time and are given back", cell.definition.slug, len(left))
                world.store.give_back(cell.worker_id, left)
            world.store.worker_stopped(cell.worker_id)
            cell.retire()
        except DatabaseError as error:
            logger.warning("%s: the worker's end could not be written: %s", cell.definition.slug, error)

    def _poll(self) -> None:
        cell, world = self._cell, self._world
        # Outcomes that wait to be written count as well, beyond one for each slot: what is not written runs again
        # should this process die.
        free = cell.slots - len(cell.flights) - max(0, len(cell.outbox) - cell.slots)
        if self._terminated or cell.draining or cell.unwired:
            return
        if free <= 0:
            self._more = True
            return
        quantity = min(free, world.batch_size)
        try:
            if cell.claims_unsure:
                known = [f.task for f in cell.flights.all()] + cell.outbox.tasks()
                world.store.give_back_unknown(cell.worker_id, cell.definition.slug, known)
                cell.claims_unsure = False
            read, tasks = world.store.claim(cell.definition, cell.worker_id, quantity, self._scope)
        except UnknownFlowError:
            # Dies, so that its module registers again, from the worker phase on; and waits for that: see `wire`.
            cell.unwired = True
            raise
        except DatabaseError as error:
            # A connection that broke while claiming may have claimed all the same.
            cell.claims_unsure = True
            self._interval = world.policy.after_error(self._interval)
            if error.connection_lost and not self._lost:
                cell.poll_soon()  # the database may be there: the next connection waits until that is known
            self._lost = error.connection_lost
            logger.log(
                logging.DEBUG if error.connection_lost or self._terminated else logging.WARNING,
                "%s: polling: %s",
                cell.definition.slug,
                error,
            )
        except Exception:
            # A fault of ours, or of one message: another worker would meet it as well, and then the whole starter.
            cell.claims_unsure = True
            self._interval = world.policy.after_error(self._interval)
            logger.exception("%s: polling", cell.definition.slug)
        else:
            self._lost = False
            for task in tasks:
                self._fly(task)
            self._more = read >= quantity
            if self._more and len(cell.flights) < cell.slots:
                cell.poll_soon()
            self._interval = world.policy.after(read > 0, self._interval)
            if read == 0:
                self._mind_invisible()
        self._token += 1
        cell.later(self._interval, PollDue(self._token))

    def _mind_invisible(self) -> None:
        """Nobody announces that a message becomes visible: a retry, a delayed one, one whose worker died."""
        cell, world = self._cell, self._world
        if world.policy.strategy is not SignalStrategy.NOTIFY:
            return
        try:
            seconds = world.store.next_visible(cell.definition.slug)
        except DatabaseError:
            return
        if seconds is not None:
            self._interval = min(self._interval, max(0.0, seconds) + VISIBLE_MARGIN)

    def _fly(self, task: Task) -> None:
        cell, world = self._cell, self._world
        step = cell.definition.step(task.step_slug)
        timeout = cell.definition.timeout if step is None else cell.definition.timeout_of(step)
        deadline = world.clock.monotonic() + timeout
        flight = Flight(task)
        cell.flights.add(flight)
        flight.timer = world.timers.after(timeout, partial(self._overdue, flight, timeout))
        try:
            world.threads.run(partial(_run_flight, cell, flight, deadline))
        except RuntimeError as error:
            if flight.land():
                cell.flights.remove(flight)
                logger.error("%s: no thread for a task: %s", cell.definition.slug, error)
                world.store.give_back(cell.worker_id, [task])

    def _overdue(self, flight: Flight, timeout: int) -> None:
        """On the timers' thread: the task took too long. Not by a message: this actor may wait in a claim, or stop."""
        with suppress(RuntimeError):  # no thread to be had: it ends when its handler does
            self._world.threads.run(partial(_give_up, self._cell, flight, timeout))


def _give_up(cell: WorkerCell, flight: Flight, timeout: int) -> None:
    """The task has failed, and whatever its thread still returns is ignored."""
    if not flight.land():
        return
    # First: a task that is neither under way nor in the outbox is taken for one that nobody knows.
    cell.outbox.add(failed(flight.task, f"TimeoutError: the task has not ended within its timeout of {timeout} s"))
    cell.flights.give_up(flight)
    cell.outbox.flush()
    cell.tell(Landed())


def _run_flight(cell: WorkerCell, flight: Flight, deadline: float) -> None:
    """On a thread of the cache: run the handler and see to its outcome."""
    outcome = execute(cell.definition, flight.task, deadline, flight.cancelled)
    if flight.timer is not None:
        flight.timer.cancel()
    if not flight.land():
        cell.flights.ended_late()
        return
    try:
        cell.outbox.put(outcome)
    finally:
        cell.flights.remove(flight)
        cell.tell(Landed())
