"""`Claims`: the one door to a worker's claims. At most one thread is on its way to it, and one claims at a time.

A claim is for as many tasks as there are free slots, and some ahead where they take no time. The thread that made it
runs them; the actor has no part in that.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from enum import Enum
from functools import partial
from uuid import UUID

from pgflow_starter.core.classify import reason_for_logs
from pgflow_starter.core.definition import FlowDefinition
from pgflow_starter.core.phases import SignalStrategy
from pgflow_starter.core.said_once import SaidOnce
from pgflow_starter.core.task import Claimed
from pgflow_starter.errors import DatabaseError, UnknownFlowError
from pgflow_starter.module_log import ModuleLog
from pgflow_starter.threads.cache import AGAIN_INTERVAL
from pgflow_starter.threads.interrupt_scope import InterruptScope
from pgflow_starter.threads.lane import LaneCall, Turn
from pgflow_starter.worker.claim_size import ClaimSize
from pgflow_starter.worker.claim_troubles import ClaimTroubles
from pgflow_starter.worker.crew import Crew
from pgflow_starter.worker.held_tasks import HeldTasks
from pgflow_starter.worker.messages import Polled
from pgflow_starter.worker.next_due import NextDue
from pgflow_starter.worker.slots import Slots
from pgflow_starter.worker.troubles import Troubles
from pgflow_starter.worker.unknown_steps import UnknownSteps
from pgflow_starter.worker.world import WorkerWorld


class Cause(Enum):
    """Why tasks should be claimed."""

    DUE = "nobody has reason to expect any: one look into many workers' queues says first whether there are some"
    WORK = "there are some, or nobody knows"
    HERE = "there are some, and the calling thread is there to claim them"
    ROOM = "a slot is free, an outcome written, or a claim over: where a claim waits for that"


class Next(Enum):
    """What the next claim waits for.

    Set without a lock, so that several threads may at worst be on their way at once. No claim is lost: a thread that
    comes serves all that was asked before, and what finds no room, or another thread claiming, has said before that it
    waits.
    """

    NOTHING = "nobody has asked"
    ROOM = "a free slot, or the end of the claim under way"
    THREAD = "a thread that is on its way"


class Claims:
    """Of one worker; they outlive its actor, to which `tell` says how claiming went. Thread-safe.

    `closed` says that it claims no more, or not yet, `stopping` that its end sees to the rest.
    """

    def __init__(
        self,
        definition: FlowDefinition,
        world: WorkerWorld,
        log: ModuleLog,
        crew: Crew,
        held: HeldTasks,
        slots: Slots,
        troubles: Troubles,
        claim_troubles: ClaimTroubles,
        *,
        worker_id: Callable[[], UUID],
        tell: Callable[[object], None],
        closed: Callable[[], bool],
        stopping: Callable[[], bool],
    ) -> None:
        self.unwired = False
        """Whether its flow or its worker is not in the database."""
        self.begun = False
        """Whether anybody has come to claim, or has looked."""
        self.worked_at = float("-inf")
        """When tasks were last claimed, or outcomes written."""
        self.unknown_steps = UnknownSteps(definition, world, troubles)
        self._definition = definition
        self._world = world
        self._log = log
        self._crew = crew
        self._held = held
        self._slots = slots
        self._troubles = troubles
        self._claim_troubles = claim_troubles
        self._worker_id = worker_id
        self._tell = tell
        self._closed = closed
        self._stopping = stopping
        self._size = ClaimSize(slots.most)
        self._next_due = NextDue(world.clock, world.timers, self.poll_soon)
        self._slow = SaidOnce()
        self.next = Next.NOTHING
        self._claiming = threading.Lock()
        self._scope = InterruptScope()
        self._over = 0  # claims, but for those that were made `HERE`
        self._over_before_look = 0

    def reopen(self) -> None:
        """The worker's actor has begun anew."""
        self._scope = InterruptScope()
        self.next = Next.NOTHING
        if self.begun or self._world.policy.strategy is SignalStrategy.POLLING:
            self.poll_soon(Cause.DUE)
        else:  # its module asks for a poll when LISTEN is in force, unless that comes to nothing
            self._world.timers.after(self._world.policy.least, self._poll_first)

    def _poll_first(self) -> None:
        if not self.begun:
            self.poll_soon(Cause.DUE)

    def poll_soon(self, cause: Cause = Cause.WORK, after: float = 0.0) -> None:
        """Have tasks claimed and run, in `after` seconds. A thread on its way serves all that is asked until it comes.

        Does not wait, but for `Cause.HERE`, which blocks on I/O.
        """
        if after > 0:
            self._world.timers.after(after, partial(self.poll_soon, cause))
        elif (cause is Cause.ROOM and (self.next is not Next.ROOM or self._slots.free() <= 0)) or self._closed():
            return
        elif cause is Cause.HERE:
            try:
                self.claim()
            except Exception as error:
                self._tell(Polled(error=error))
        elif cause is Cause.DUE and not self._held.unsure and self._troubles.current is None:
            self._over_before_look = self._over
            self._world.lookout.look_for(self)
        elif self.next is not Next.THREAD:
            self._send_thread()

    @property
    def wired_as(self) -> tuple[UUID, str]:
        """The worker's id and its flow."""
        return self._worker_id(), self._definition.slug

    def saw_nothing(self, visible_in: float | None) -> None:
        """There is nothing to claim yet; in so many seconds, where it is known."""
        self.begun = True
        self._next_due.looked(visible_in)
        # A claim that was made meanwhile may have seen what came after the look, and has said when to poll next.
        if self._over == self._over_before_look:
            self._tell(Polled(Claimed(0, (), visible_in)))

    def no_thread(self, error: RuntimeError) -> None:
        """There is no thread that could look, or claim."""
        self._tell(Polled(error=error))

    def _send_thread(self) -> None:
        self.next = Next.THREAD
        call = LaneCall(lambda: self._crew.serve(lambda: self._come(call)), Turn.LATER)
        try:
            self._world.lane.enter(call)
        except RuntimeError as error:
            self.next = Next.ROOM  # which may have been waited for before
            self.no_thread(error)

    def _come(self, call: LaneCall) -> bool:
        """Claim tasks; whether there are some, which this thread is to run: not in the place of another's poll."""
        self.next = Next.NOTHING
        self.begun = True
        try:
            claimed = self.claim()
        except BaseException as error:
            self._over += 1
            self._tell(Polled(error=error))
            return False
        if claimed is None:
            return False
        self._over += 1
        self._tell(Polled(claimed))
        if claimed.tasks:
            self._leave(call)
        return bool(claimed.tasks)

    def _leave(self, call: LaneCall) -> None:
        try:
            self._world.lane.leave(call)
        except RuntimeError:  # no thread for the poll that comes next
            self._world.timers.after(AGAIN_INTERVAL, partial(self._leave, call))

    def begin_cancel(self) -> Callable[[], object] | None:
        """The worker ends: what interrupts a claim under way, where there is one; it may block on I/O."""
        return self._scope.begin_cancel()

    @property
    def under_way(self) -> bool:
        """Whether a thread claims."""
        return self._claiming.locked()

    def wait(self, timeout: float) -> None:
        """Wait, up to `timeout` seconds, for a claim that is under way."""
        if self._claiming.acquire(timeout=timeout):
            self._claiming.release()

    def claim(self) -> Claimed | None:
        """Claim tasks for the free slots and launch them. Blocks on I/O.

        None when there is no slot, or another thread is at it: then a poll is asked for as soon as there is reason to.
        Raises DatabaseError, UnknownFlowError.
        """
        if self._closed():
            return None
        if self.next is Next.NOTHING:
            self.next = Next.ROOM  # said first: a slot that comes free after the count asks for a poll
        if not self._claiming.acquire(blocking=False):
            return None
        try:
            return None if self._closed() else self._claim()
        finally:
            self._release()

    def give_back_unknown(self) -> bool:
        """Give back what the database holds and the worker does not know; False while it cannot say: a thread claims.

        Blocks on I/O. Raises DatabaseError.
        """
        # What a claim under way has started is known when it returns; the next one looks before it claims.
        if not self._claiming.acquire(blocking=False):
            self._held.unsure = True
            return False
        try:
            return self._stopping() or self._held.give_back_unknown()
        finally:
            self._release()

    def _release(self) -> None:
        self._claiming.release()
        self.poll_soon(Cause.ROOM)

    def _claim(self) -> Claimed | None:
        clock, quantity = self._world.clock, self._size.of(self._slots.wanted())
        if quantity <= 0:
            return None
        if self.next is Next.ROOM:
            self.next = Next.NOTHING
        began = clock.monotonic()
        try:
            if self._held.unsure:
                self._held.give_back_unknown()
            store, worker_id = self._world.store, self._worker_id()
            self._crew.claim_begins()
            claimed = store.claim(self._definition, worker_id, quantity, self._scope, self._size.answers)
        except UnknownFlowError:
            self.unwired = True  # until its module has registered again
            raise
        except BaseException as error:
            # A connection that broke while claiming may have claimed all the same.
            self._held.unsure = True
            if self._stopping():
                raise
            if isinstance(error, DatabaseError) and error.timed_out:
                self._too_slow(quantity, clock.monotonic() - began, error)
            if quantity == 1 or not getattr(error, "timed_out", False):  # else it goes on smaller
                self._claim_troubles.failed(error, began)
            raise
        seconds = clock.monotonic() - began
        self._went_well(claimed, seconds)
        received = self._world.messages.received(self._definition.slug, claimed, seconds) if claimed.read else None
        if claimed.tasks:
            self.worked_at = clock.monotonic()
        self._crew.launch(claimed.tasks, received)
        if claimed.read >= quantity and self.next is Next.NOTHING:
            self.next = Next.ROOM  # there may be more
        self._next_due.claimed(claimed, quantity)
        return claimed

    def _too_slow(self, quantity: int, seconds: float, error: DatabaseError) -> None:
        self._size.exceeded(quantity, seconds)
        if self._slow.note("slow"):
            told = "claiming %d tasks took too long, %.1f s: fewer at a time from now on, and more time for one (%s)"
            self._log.warning(told, quantity, seconds, reason_for_logs(error))

    def _went_well(self, claimed: Claimed, seconds: float) -> None:
        if claimed.read:
            self._size.done(seconds)
        if not self._size.small and self._slow.clear():
            self._log.info("claims are of their usual size again")
        if claimed.nobodys:
            self._log.debug("%d messages belong to no task that could be started: they are put aside", claimed.nobodys)
        for (_, message), why in claimed.refused:
            self._log.debug("the task of message %d cannot be started, and is put aside: %s", message, why)
        self._claim_troubles.judge(claimed)
        if claimed.hidden:
            self.poll_soon(after=AGAIN_INTERVAL)
        self.unknown_steps.met(claimed.unknown)
