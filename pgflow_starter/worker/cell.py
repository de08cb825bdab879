"""`WorkerCell`: what must survive the crash of a worker: tasks under way, outcomes not yet written, the worker's id."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import uuid4

import pykka

from pgflow_starter.actors.threads import ThreadCache
from pgflow_starter.core.definition import FlowDefinition
from pgflow_starter.core.task import Outcome, OutcomeKind
from pgflow_starter.ports import Clock, TaskStore, Timers
from pgflow_starter.worker.flights import Flights
from pgflow_starter.worker.messages import Landed, Poll, Wake
from pgflow_starter.worker.outbox import Outbox
from pgflow_starter.worker.polling import PollPolicy, dependents_delays, retry_delay


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
