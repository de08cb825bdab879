"""`WorkerCell`: what must survive the crash of a worker: tasks under way, outcomes not yet written, the worker's id."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Collection, Sequence
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import pykka

from pgflow_starter.clock import Timer
from pgflow_starter.core.definition import FlowDefinition
from pgflow_starter.core.said_once import SaidOnce
from pgflow_starter.core.state import WorkerState
from pgflow_starter.core.task import Outcome, OutcomeKind, Task
from pgflow_starter.core.trouble import TroubleKind
from pgflow_starter.module_log import ModuleLog
from pgflow_starter.supervision.actor import tell
from pgflow_starter.threads.cache import AGAIN_INTERVAL, run_patiently
from pgflow_starter.worker.ahead import Ahead
from pgflow_starter.worker.claim_troubles import ClaimTroubles
from pgflow_starter.worker.claims import Cause, Claims
from pgflow_starter.worker.crew import Crew
from pgflow_starter.worker.failure_log import FailureLog
from pgflow_starter.worker.flights import Flights
from pgflow_starter.worker.held_tasks import HeldTasks
from pgflow_starter.worker.outbox import Outbox
from pgflow_starter.worker.poll_intervals import dependents_delays, retry_delay, root_delays, snooze_delay
from pgflow_starter.worker.slots import Slots
from pgflow_starter.worker.troubles import Troubles
from pgflow_starter.worker.world import WorkerWorld

logger = logging.getLogger("pgflow_starter.workers")

NO_FAILURE = (OutcomeKind.COMPLETED, OutcomeKind.IGNORED, OutcomeKind.SNOOZED)


class WorkerCell:
    """What belongs to one worker and outlives each incarnation of its actor. Thread-safe where others use it."""

    def __init__(self, module: str, definition: FlowDefinition, slots: int, world: WorkerWorld) -> None:
        self.log = ModuleLog(logger, module, definition.slug)
        self.failing = SaidOnce()
        self.troubles = Troubles(
            world.clock, world.timers, self.log, partial(world.troubled, definition.slug), lambda: self.stopping
        )
        self.worker_id = uuid4()
        self.definition = definition
        self.flights = Flights()
        self.claim_troubles = ClaimTroubles(definition.slug, self.troubles, world.clock, lambda: len(self.flights) > 0)
        failing = FailureLog(definition, self.log, world.failures)
        self.outbox = Outbox(
            world.store,
            world.clock,
            self._settled,
            self._flush_in,
            self.log,
            self.troubles,
            failed=failing.log,
            ended=world.ended,
            away=world.away,
        )
        ahead = Ahead(slots, world.batch_size)
        self.slots = Slots(slots, ahead, self.flights, self.outbox, self.troubles)
        self.held = HeldTasks(
            world.store,
            self.log,
            self.flights,
            self.outbox,
            worker_ids=lambda: self.worker_ids,
            stopping=lambda: self.stopping,
            given_back=lambda: self.claims.poll_soon(after=AGAIN_INTERVAL),
        )
        self.crew = Crew(
            definition,
            slots,
            ahead,
            self.flights,
            self.outbox,
            self.held,
            world,
            failing,
            hanging=self.slots.judge_hanging,
            landed=lambda: self.claims.poll_soon(Cause.ROOM),
        )
        self.claims = Claims(
            definition,
            world,
            self.log,
            self.crew,
            self.held,
            self.slots,
            self.troubles,
            self.claim_troubles,
            worker_id=lambda: self.worker_id,
            tell=self.tell,
            closed=lambda: self.draining or self.stopping or self.claims.unwired,
            stopping=lambda: self.stopping,
        )
        self.ref: pykka.ActorRef[Any] | None = None
        self.lost = False
        self.draining = False
        self.has_left = False
        """Whether its present id is that of one which has stopped, and said so."""
        self.ended = False
        self.unsaid = ""
        """Why its end could not be written, which is logged for all workers together."""
        self._giving_up = False
        self.former: list[UUID] = []
        self.leaving: list[UUID] = []
        self._counting = threading.Lock()
        self._completed = 0
        self._failed: Counter[str] = Counter()  # by step; never changed, for others read it
        self._trailing: Timer | None = None
        self._root_delays = root_delays(definition)
        self._world = world
        self._soon = partial(run_patiently, world.threads, world.timers)

    def adopt(self, ref: pykka.ActorRef[Any]) -> None:
        """A new incarnation of the actor."""
        self.ref = ref
        self.ended = self._giving_up = False
        self.unsaid = ""
        self.flights.reopen()
        self.claims.reopen()

    def state(self) -> WorkerState:
        """A snapshot. Never waits."""
        ref, failed = self.ref, self._failed
        return WorkerState(
            slug=self.definition.slug,
            worker_id=self.worker_id,
            alive=ref is not None and ref.is_alive() and not (self.claims.unwired or self.lost),
            slots=self.slots.count,
            running=self.flights.running,
            completed=self._completed,
            failed=failed.total(),
            unwritten=len(self.outbox),
            abandoned=self.flights.abandoned,
            draining=self.draining,
            trouble=self.troubles.current,
            failed_by_step=dict(failed),  # of a Counter `dataclasses.asdict` makes another
        )

    def tell(self, message: object) -> None:
        """Send to the current incarnation; lost on a dead one, whose successor polls anyway."""
        tell(self.ref, message)

    def wire(self) -> None:
        """The flow and the worker are in the database: it may poll. Before its actor is started, or after."""
        self.claims.unwired = self.lost = False
        self.slots.judge_hanging()
        if self.ref is not None:  # else its first actor does
            self.claims.poll_soon(Cause.DUE)

    def begin_anew(self) -> None:
        """The worker has stopped, and that was said in the database; one that is started after it is another."""
        self.worker_id = uuid4()
        self.draining = self.has_left = self.ended = False
        self.claims.unknown_steps.forget()
        self.troubles.end(*TroubleKind)

    def hand_over(self) -> None:
        """From now on it is another worker, which claims nothing until `wire`; the former's tasks may be under way."""
        self.claims.unwired = True  # first: the new one is not in the database yet
        if not self.has_left:
            self.former.append(self.worker_id)
        self.begin_anew()

    def record_stopped(self, worker_id: UUID) -> bool:
        """One of the leaving has stopped, and that was said; whether it was the present worker."""
        try:
            self.leaving.remove(worker_id)
        except ValueError:  # said at its end, meanwhile
            return False
        if worker_id in self.former:
            self.former.remove(worker_id)
            return False
        self.has_left = True
        return True

    @property
    def worker_ids(self) -> list[UUID]:
        """Those in whose name the database may hold tasks for it."""
        return [*self.former, *([] if self.has_left else [self.worker_id])]

    @property
    def stopping(self) -> bool:
        """Whether its supervisor ends it, or the starter stops: it claims no more, and nothing that fails counts."""
        return self._giving_up or self._world.shutdown.begun

    @property
    def busy(self) -> bool:
        """Whether tasks are being claimed, run, written or given back; asked in that order, in which a task goes."""
        return bool(self.claims.under_way or len(self.flights) or len(self.outbox) or self.held.returning())

    @property
    def drained(self) -> bool:
        """Whether it claims no more, and all that it had claimed is done and written, as far as it knows."""
        return self.draining and not self.busy

    def wake(self) -> None:
        """A notification came: poll now, once more when the throttle has passed, and when delayed steps are visible."""
        self._world.messages.woken(self.definition.slug)
        self.claims.poll_soon()
        for delay in self._root_delays:
            self.claims.poll_soon(after=delay)
        trailing = self._world.policy.trailing
        if trailing is not None:
            if self._trailing is not None:
                self._trailing.cancel()
            self._trailing = self._world.timers.after(trailing, self.claims.poll_soon)

    def listening(self) -> None:
        """LISTEN is in force. What was sent before was announced to nobody, nor is what comes within the throttle."""
        self.claims.poll_soon(Cause.DUE)
        if self._world.policy.trailing is not None:
            self.claims.poll_soon(Cause.DUE, after=self._world.policy.trailing)

    def stop_claiming(self) -> None:
        """From now on; a claim under way is interrupted, on a thread of the cache. Does not wait."""
        self._giving_up = True
        interrupt = self.claims.begin_cancel()
        if interrupt is not None:
            self._soon(interrupt)

    def call_off(self, run_ids: Collection[UUID]) -> None:
        """These runs have ended, and that is in the database: none of their tasks begins here any more. Does not wait.

        A claim that is not under way yet brings none of them.
        """
        self.crew.call_off(run_ids, claiming=self.claims.under_way)

    def reconcile(self, held: Sequence[Task]) -> None:
        """Give back what the database holds as started by this worker and it does not know.

        Blocks on I/O where there is some. Raises DatabaseError.
        """
        if not self.held.knows_all(held):
            self.claims.give_back_unknown()

    def database_back(self) -> None:
        """The database is reachable again: write what waits, then poll."""
        self.troubles.renew()
        if len(self.outbox):
            self._soon(self.outbox.flush)
        self.claims.poll_soon()

    def _settled(self, outcomes: Sequence[Outcome]) -> None:
        """Poll when what these outcomes made visible is there: the next steps, or the task again."""
        was_at, self.claims.worked_at = self.claims.worked_at, self._world.clock.monotonic()
        if self._world.policy.quickens(self.claims.worked_at - was_at):
            self.claims.poll_soon(Cause.DUE)
        delays: set[float] = set()
        last: list[UUID] = []
        completed = sum(outcome.kind is OutcomeKind.COMPLETED for outcome in outcomes)
        failed = Counter(outcome.task.step_slug for outcome in outcomes if outcome.kind not in NO_FAILURE)
        with self._counting:
            self._completed += completed
            self._failed = self._failed + failed
        for outcome in outcomes:
            follow = self._what_follows(outcome)
            delays |= follow
            if not follow and outcome.kind is not OutcomeKind.SNOOZED:
                last.append(outcome.task.run_id)
        self._world.tally.note(self.definition, outcomes, self.worker_ids)
        self.held.recorded()
        self.claim_troubles.recorded()
        self.claims.poll_soon(Cause.ROOM)
        for delay in delays - {0.0}:
            self.claims.poll_soon(after=delay)
        if 0.0 in delays:
            self.claims.poll_soon(Cause.HERE)
        if last:
            self._world.may_have_ended(last)

    def _what_follows(self, outcome: Outcome) -> set[float]:
        """In how many seconds it is to be looked for; empty where the outcome may be its run's last."""
        step = self.definition.step(outcome.task.step_slug)
        if outcome.kind is OutcomeKind.COMPLETED:
            return dependents_delays(self.definition, outcome.task.step_slug)
        if outcome.kind is OutcomeKind.FAILED and step is not None:
            delay = retry_delay(self.definition, step, outcome.task.attempt)
            return set() if delay is None else {delay}
        if outcome.kind is OutcomeKind.SNOOZED:
            return snooze_delay(outcome.until - self._world.clock.monotonic())
        return set()

    def _flush_in(self, seconds: float | None) -> None:
        """Some outcomes could not be written: try again then, or when this worker would poll."""
        pause = min(self._world.policy.least, AGAIN_INTERVAL) if seconds is None else seconds
        self._world.timers.after(pause, partial(self._soon, self.outbox.flush))
        self.claims.poll_soon(Cause.ROOM)  # those that are parked have made some, and may never be written
