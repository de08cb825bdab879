"""`WorkerCell`: what must survive the crash of a worker: tasks under way, outcomes not yet written, the worker's id."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import pykka

from pgflow_starter.clock import Timer
from pgflow_starter.core.classify import reason_for_logs
from pgflow_starter.core.definition import FlowDefinition
from pgflow_starter.core.evidence import TaskKey
from pgflow_starter.core.news import News
from pgflow_starter.core.state import SignalStrategy, WorkerState
from pgflow_starter.core.task import Claimed, Outcome, OutcomeKind, Task
from pgflow_starter.core.trouble import TroubleKind, TroubleScope
from pgflow_starter.errors import DatabaseError, UnknownFlowError
from pgflow_starter.module_log import ModuleLog
from pgflow_starter.threads.cache import AGAIN_INTERVAL, run_patiently
from pgflow_starter.threads.lane import LaneCall, Turn
from pgflow_starter.threads.scope import PhaseScope
from pgflow_starter.worker.claim_size import ClaimSize
from pgflow_starter.worker.claim_troubles import ClaimTroubles
from pgflow_starter.worker.crew import Crew
from pgflow_starter.worker.failure_log import FailureLog
from pgflow_starter.worker.flights import Flights
from pgflow_starter.worker.messages import Polled
from pgflow_starter.worker.outbox import Outbox
from pgflow_starter.worker.polling import dependents_delays, retry_delay, root_delays
from pgflow_starter.worker.troubles import Troubles
from pgflow_starter.worker.unknown_steps import UnknownSteps
from pgflow_starter.worker.world import WorkerWorld

logger = logging.getLogger("pgflow_starter.workers")

WAITING = 2
"""Outcomes for each slot but one that may wait to be written before a worker claims less than it has slots for. The
more, the more are written together; but what is not written runs again should the process die. So with one slot a task
begins when the one before it is written."""

HANGING = 4
"""Handlers for each slot that may hang, given up, until the worker claims no more: each keeps a thread, and what it
holds."""

HANG = (
    "{} handlers of steps {} have not ended although they were given up, so that no more tasks are claimed until some"
    " have: give what they wait for a limit of its own, have them look at ctx.cancelled, or start the process anew"
)


class WorkerCell:
    """What belongs to one worker and outlives each incarnation of its actor. Thread-safe where others use it."""

    def __init__(self, module: str, definition: FlowDefinition, slots: int, world: WorkerWorld) -> None:
        self.log = ModuleLog(logger, module, definition.slug)
        self.failing = News()
        self.troubles = Troubles(
            world.clock, world.timers, self.log, partial(world.troubled, definition.slug), lambda: self.stopping
        )
        self.worker_id = uuid4()
        self.definition = definition
        self.slots = slots
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
            failed=failing.tell,
            away=world.away,
        )
        self.crew = Crew(
            definition,
            self.flights,
            self.outbox,
            world.messages,
            clock=world.clock,
            timers=world.timers,
            threads=world.threads,
            failing=failing,
            hanging=self._judge_hanging,
            landed=self.landed,
            returning=self._are_returning,
            returned=self._returned,
        )
        self.ref: pykka.ActorRef[Any] | None = None
        self.claims_unsure = False
        self.unwired = False
        self.lost = False
        self.draining = False
        self.retired = False
        self.ended = False
        self.unsaid = ""
        """Why its end could not be written, for whoever tells it of all."""
        self._giving_up = False
        self._unknown = UnknownSteps(definition, world, self.troubles)
        self._no_thread, self._kept, self._slow = News(), News(), News()
        self.former: list[UUID] = []
        self.leaving: list[UUID] = []
        self._returning: dict[TaskKey, Task] = {}
        self._returned_before: set[TaskKey] = set()
        self.worked_at = float("-inf")
        self._size = ClaimSize(min(self.slots, world.batch_size))
        self._counting, self._judging = threading.Lock(), threading.Lock()
        self._completed = 0
        self._failed = 0
        self._claiming = threading.Lock()
        self._scope = PhaseScope()
        self._poll_asked = False
        self._polled = False
        self._polls = 0
        self._polls_before_look = 0
        self._hungry = False
        self._trailing: Timer | None = None
        self._root_delays = root_delays(definition)
        self._world = world

    def adopt(self, ref: pykka.ActorRef[Any]) -> None:
        """A new incarnation of the actor."""
        self.ref = ref
        self.ended = self._giving_up = False
        self.unsaid = ""
        self.flights.reopen()
        self._scope = PhaseScope()
        self._poll_asked = False
        if self._polled or self._world.policy.strategy is SignalStrategy.POLLING:
            self.look_soon()
        else:  # its module asks for a poll when LISTEN is in force, unless that comes to nothing
            self._world.timers.after(self._world.policy.least, self._poll_first)

    def _poll_first(self) -> None:
        if not self._polled:
            self.look_soon()

    def state(self) -> WorkerState:
        """A snapshot. Never waits."""
        ref = self.ref
        return WorkerState(
            slug=self.definition.slug,
            worker_id=self.worker_id,
            alive=ref is not None and ref.is_alive() and not (self.unwired or self.lost),
            slots=self.slots,
            running=len(self.flights),
            completed=self._completed,
            failed=self._failed,
            unwritten=len(self.outbox),
            abandoned=self.flights.abandoned,
            draining=self.draining,
            trouble=self.troubles.current,
        )

    def tell(self, message: object) -> None:
        """Send to the current incarnation; lost on a dead one, whose successor polls anyway."""
        if self.ref is not None:
            try:
                self.ref.tell(message)
            except pykka.ActorDeadError:
                return

    def later(self, delay: float, message: object) -> Timer:
        """Send it in `delay` seconds."""
        return self._world.timers.after(delay, partial(self.tell, message))

    def wire(self) -> None:
        """The flow and the worker are in the database: it may poll. Before its actor is started, or after."""
        self.unwired = self.lost = False
        self._judge_hanging()
        if self.ref is not None:  # else its first actor does
            self.look_soon()

    def retire(self) -> None:
        """The worker has stopped, and that was said in the database; one that is started after it is another."""
        self.worker_id = uuid4()
        self.draining = self.retired = self.ended = False
        self._unknown.forget()
        self.troubles.end(*TroubleKind)

    def succeed(self) -> None:
        """From now on it is another worker; what the former one had claimed may still be under way."""
        if not self.retired:
            self.former.append(self.worker_id)
        self.retire()

    def left(self, worker_id: UUID) -> bool:
        """One of those who were leaving has stopped, and said so; whether it was the present worker."""
        try:
            self.leaving.remove(worker_id)
        except ValueError:  # said at its end, meanwhile
            return False
        if worker_id in self.former:
            self.former.remove(worker_id)
            return False
        self.retired = True
        return True

    @property
    def worker_ids(self) -> list[UUID]:
        """Those in whose name the database may hold tasks for it."""
        return [*self.former, *([] if self.retired else [self.worker_id])]

    @property
    def stopping(self) -> bool:
        """Whether its supervisor ends it, or the starter stops: it claims no more, and nothing that fails counts."""
        return self._giving_up or self._world.shutdown.begun

    @property
    def busy(self) -> bool:
        """Whether tasks are being claimed, run, written or given back; asked in that order, in which a task goes."""
        return bool(self._claiming.locked() or len(self.flights) or len(self.outbox) or self._returning)

    @property
    def drained(self) -> bool:
        """Whether it claims no more, and all that it had claimed is done and written, as far as it knows."""
        return self.draining and not self.busy

    def wake(self) -> None:
        """A notification came: poll now, once more when the throttle has passed, and when delayed steps are visible."""
        self._world.messages.woken(self.definition.slug)
        self.poll_soon()
        if self._root_delays:
            self._poll_in(self._root_delays)
        trailing = self._world.policy.trailing
        if trailing is not None:
            if self._trailing is not None:
                self._trailing.cancel()
            self._trailing = self._world.timers.after(trailing, self.poll_soon)

    @property
    def wired_as(self) -> tuple[UUID, str]:
        """The worker's id and its queue."""
        return self.worker_id, self.definition.slug

    def look_soon(self) -> None:
        """Have somebody look whether there is something to claim. Does not wait."""
        if self.claims_unsure or self.troubles.current is not None:
            self.poll_soon()
        elif not self.stopping:
            self._polls_before_look = self._polls
            self._world.lookout.look_for(self)

    def listening(self) -> None:
        """LISTEN is in force. What was sent before was announced to nobody, nor is what comes within the throttle."""
        self.look_soon()
        if self._world.policy.trailing is not None:
            self._world.timers.after(self._world.policy.trailing, self.look_soon)

    def saw_nothing(self, visible_in: float | None) -> None:
        """There is nothing to claim yet; in so many seconds, where it is known."""
        self._polled = True
        # A claim that was made meanwhile may have seen what came after the look, and has said when to poll next.
        if self._polls == self._polls_before_look:
            self.tell(Polled(Claimed(0, (), visible_in)))

    def no_thread(self, error: RuntimeError) -> None:
        """There is no thread that could look, or claim."""
        self.tell(Polled(error=error))

    def poll_soon(self) -> None:
        """Have a thread claim tasks and run them; one that is on its way serves all who ask. Does not wait."""
        if self._poll_asked or self.stopping:
            return
        self._poll_asked = True
        place = LaneCall(lambda: self.crew.serve(lambda: self._poll(place)), Turn.LATER)
        try:
            self._world.lane.enter(place)
        except RuntimeError as error:
            self._poll_asked = False
            self.no_thread(error)

    def _poll(self, place: LaneCall) -> bool:
        """Claim tasks; whether there are some, which this thread is to run: not in the place of another's poll."""
        self._poll_asked = False
        self._polled = True
        try:
            claimed = self.claim()
        except BaseException as error:
            self._polls += 1
            self.tell(Polled(error=error))
            return False
        if claimed is None:
            return False
        self._polls += 1
        self.tell(Polled(claimed))
        if claimed.tasks:
            self._leave(place)
        return bool(claimed.tasks)

    def _leave(self, place: LaneCall) -> None:
        try:
            self._world.lane.leave(place)
        except RuntimeError:  # no thread for the next who polls
            self._world.timers.after(AGAIN_INTERVAL, partial(self._leave, place))

    def stop_claiming(self) -> None:
        """From now on; a claim under way is interrupted, on a thread of the cache. Does not wait."""
        self._giving_up = True
        interrupt = self._scope.give_up()
        if interrupt is not None:
            self._soon(interrupt)

    def landed(self) -> None:
        """A slot is free, or an outcome written: poll if that is what is waited for."""
        if self._hungry:
            self._hungry = False
            self.poll_soon()

    def await_claim(self, timeout: float) -> None:
        """Wait, up to `timeout` seconds, for a claim that is under way."""
        if self._claiming.acquire(timeout=timeout):
            self._claiming.release()

    def claim(self) -> Claimed | None:
        """Claim tasks for the free slots and launch them; the actor has no part in it. Blocks on I/O.

        None when there is no slot, or another thread is at it: then a poll is asked for as soon as there is reason to.
        Raises DatabaseError, UnknownFlowError.
        """
        if self.draining or self.unwired or self.stopping:
            return None
        self._hungry = True  # said first: a slot that comes free after the count asks for a poll
        if not self._claiming.acquire(blocking=False):
            return None
        try:
            return None if self.stopping else self._claim()
        finally:
            self._claiming.release()
            if self._free() > 0:
                self.landed()

    def _claim(self) -> Claimed | None:
        store, quantity = self._world.store, self._size.of(min(self._free(), self._world.batch_size))
        if quantity <= 0:
            return None
        self._hungry = False
        began = self._world.clock.monotonic()
        try:
            if self.claims_unsure:
                self.give_back_unknown()
            claimed = store.claim(self.definition, self.worker_id, quantity, self._scope, self._size.answers)
        except UnknownFlowError:
            self.unwired = True  # until its module has registered again: see `wire`
            raise
        except BaseException as error:
            # A connection that broke while claiming may have claimed all the same.
            self.claims_unsure = True
            if self.stopping:
                raise
            if isinstance(error, DatabaseError) and error.timed_out:
                self._too_slow(quantity, self._world.clock.monotonic() - began, error)
            if quantity == 1 or not getattr(error, "timed_out", False):  # else it goes on smaller
                self.claim_troubles.failed(error, began)
            raise
        seconds = self._world.clock.monotonic() - began
        self._went_well(claimed, seconds)
        self._unknown.met(claimed.unknown)
        received = self._world.messages.received(self.definition.slug, claimed, seconds) if claimed.read else None
        if claimed.tasks:
            self.worked_at = self._world.clock.monotonic()
        self.crew.launch(claimed.tasks, received)
        self._hungry = self._hungry or claimed.read >= quantity  # there may be more
        return claimed

    def _too_slow(self, quantity: int, seconds: float, error: DatabaseError) -> None:
        """A claim has exceeded its limit."""
        self._size.exceeded(quantity, seconds)
        if self._slow.says("slow"):
            self.log.warning(
                "claiming %d tasks took too long, %.1f s: fewer at a time from now on, and more time for one (%s)",
                quantity,
                seconds,
                reason_for_logs(error),
            )

    def _went_well(self, claimed: Claimed, seconds: float) -> None:
        if claimed.read:
            self._size.done(seconds)
        if not self._size.small and self._slow.over():
            self.log.info("claims are of their usual size again")
        if claimed.nobodys:
            self.log.debug("%d messages belong to no task that could be started: they are put aside", claimed.nobodys)
        for message, why in claimed.refused:
            self.log.debug("the task of message %d cannot be started, and is put aside: %s", message, why)
        self.claim_troubles.judge(claimed)
        if claimed.hidden:
            self._poll_in([AGAIN_INTERVAL])

    def reconcile(self, held: Sequence[Task]) -> None:
        """Compare what the database holds as started by this worker with what it knows, and give back the rest.

        Blocks on I/O where there is something that it does not know. Raises DatabaseError.
        """
        known = self._known()
        if not all(_key(task) in known for task in held):
            self.give_back_unclaimed()
        elif self._returned_before:
            self._returned_before = set()
            self.outbox.came_again(())

    def give_back_unclaimed(self) -> bool:
        """Give back what the database holds and it does not know; False while it cannot say: somebody claims.

        Blocks on I/O. Raises DatabaseError.
        """
        # What a claim under way has started is known when it returns; the next one looks before it claims.
        if not self._claiming.acquire(blocking=False):
            self.claims_unsure = True
            return False
        try:
            return self.stopping or self.give_back_unknown()
        finally:
            self._claiming.release()
            if self._free() > 0:
                self.landed()

    def give_back_unknown(self) -> bool:
        """Give back what the database holds as started by this worker and it does not know. While nobody claims.

        False where somebody has some of it locked. Blocks on I/O. Raises DatabaseError.
        """
        known, store = self._known(), self._world.store
        unknown: dict[UUID, list[Task]] = {}
        for worker_id, task in store.started_by(self.worker_ids):
            if _key(task) not in known:
                unknown.setdefault(worker_id, []).append(task)
        returned = set[TaskKey]().union(*(store.give_back(worker_id, tasks) for worker_id, tasks in unknown.items()))
        given = len(returned)
        self.outbox.came_again(returned & self._returned_before)
        self._returned_before = returned
        if given:
            self.log.warning("%d tasks that it did not know of were held as started: given back", given)
            self._poll_in([AGAIN_INTERVAL])  # nobody announces them
        self.claims_unsure = False
        return given == sum(map(len, unknown.values()))

    def _known(self) -> set[tuple[UUID, str, int]]:
        """Under way, to be written, or being given back; in that order, in which a task goes."""
        tasks = [flight.task for flight in self.flights.all()]
        tasks += self.outbox.tasks()
        return {_key(task) for task in tasks} | set(self._returning)

    def _free(self) -> int:
        flying = len(self.flights)
        free = self.slots - flying - max(0, self.outbox.weight - WAITING * (self.slots - 1))
        return min(free, HANGING * self.slots - self.flights.abandoned - flying)

    def _judge_hanging(self) -> None:
        """Handlers that were given up go on: so many may, and each that ends makes room for another."""
        with self._judging:  # else what was found first may be said last
            hanging = self.flights.hanging
            if len(hanging) < HANGING * self.slots:
                self.troubles.end(TroubleKind.HANDLERS_HANG)
            else:
                steps = ", ".join(sorted({repr(task.step_slug) for task in hanging}))
                self.troubles.begin(TroubleKind.HANDLERS_HANG, HANG.format(len(hanging), steps), scope=TroubleScope.ALL)

    def database_back(self) -> None:
        """The database is reachable again: write what waits, then poll."""
        self.troubles.renew()
        if len(self.outbox):
            self._soon(self.outbox.flush)
        self.poll_soon()

    def _settled(self, outcomes: Sequence[Outcome]) -> None:
        """Poll when what these outcomes made visible is there: the next steps, or the task again."""
        was_at, self.worked_at = self.worked_at, self._world.clock.monotonic()
        if self._world.policy.quickens(self.worked_at - was_at):
            self.look_soon()
        delays: set[float] = set()
        last: list[UUID] = []
        completed = sum(outcome.kind is OutcomeKind.COMPLETED for outcome in outcomes)
        ignored = sum(outcome.kind is OutcomeKind.IGNORED for outcome in outcomes)
        with self._counting:
            self._completed += completed
            self._failed += len(outcomes) - completed - ignored
        for outcome in outcomes:
            follow = self._what_follows(outcome)
            delays |= follow
            if not follow:
                last.append(outcome.task.run_id)
        self._no_thread.over()
        self.claim_troubles.recorded()
        self.landed()
        self._poll_in(delays - {0.0})
        if 0.0 in delays:
            self._claim_here()
        if last:
            self._world.may_have_ended(last)

    def _claim_here(self) -> None:
        """There is work at once, and this thread is there."""
        try:
            self.claim()
        except Exception as error:
            self.tell(Polled(error=error))

    def _what_follows(self, outcome: Outcome) -> set[float]:
        """In how many seconds it is visible; empty where the outcome may be its run's last."""
        step = self.definition.step(outcome.task.step_slug)
        if outcome.kind is OutcomeKind.COMPLETED:
            return dependents_delays(self.definition, outcome.task.step_slug)
        if outcome.kind is OutcomeKind.FAILED and step is not None:
            delay = retry_delay(self.definition, step, outcome.task.attempt)
            return set() if delay is None else {delay}
        return set()

    def _poll_in(self, delays: Iterable[float]) -> None:
        """Ask for a poll after each of the delays, in seconds."""
        for delay in delays:
            if delay > 0:
                self._world.timers.after(delay, self.poll_soon)
            else:
                self.poll_soon()

    def returning(self) -> list[Task]:
        """Those that a thread is about to give back."""
        return list(self._returning.values())

    def _are_returning(self, task: Task) -> None:
        """It is under way no more, and about to be given back."""
        self._returning[_key(task)] = task

    def _returned(self, tasks: list[Task]) -> None:
        if not self.stopping:
            tell = self.log.error if self._no_thread.says("no thread") else self.log.debug
            tell("no thread for %d tasks, which are given back", len(tasks))
        try:
            for worker_id in self.worker_ids:
                self._world.store.give_back(worker_id, tasks)
        except Exception as error:
            self.claims_unsure = True
            said = reason_for_logs(error)
            tell = self.log.warning if self._kept.says(said) else self.log.debug
            tell("giving tasks back: %s", said)
        else:
            self._kept.over()
        finally:
            for task in tasks:
                self._returning.pop(_key(task), None)
        # Nobody announces them, and whoever polled has done so.
        self._world.timers.after(AGAIN_INTERVAL, self.poll_soon)

    def _flush_in(self, seconds: float | None) -> None:
        """Some outcomes could not be written: try again then, or when this worker would poll."""
        pause = min(self._world.policy.least, AGAIN_INTERVAL) if seconds is None else seconds
        self._world.timers.after(pause, partial(self._soon, self.outbox.flush))

    def _soon(self, call: Callable[[], object]) -> None:
        run_patiently(self._world.threads, self._world.timers, call)


def _key(task: Task) -> tuple[UUID, str, int]:
    return task.run_id, task.step_slug, task.task_index
