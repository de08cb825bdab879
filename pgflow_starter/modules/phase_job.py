"""`PhaseJob`: one phase of one attempt, wherever it is carried out. It outlives the actor that started it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import TYPE_CHECKING

from pgflow_starter.clock import Timer, Timers
from pgflow_starter.core.phases import Phase
from pgflow_starter.core.state import Identity
from pgflow_starter.errors import TransientError
from pgflow_starter.modules.cell import ModuleCell
from pgflow_starter.modules.messages import PhaseOverdue, PhaseReported
from pgflow_starter.modules.phase_plan import Here, InLane, Listen, OnOwnThread, OnThread, Phases, Plan, Together
from pgflow_starter.threads.cache import ThreadCache, doing
from pgflow_starter.threads.interrupt_scope import InterruptScope
from pgflow_starter.threads.lane import Lane, Turn

if TYPE_CHECKING:
    from pgflow_starter.ports import PhaseObserver


class PhaseJob:
    """Has the phase carried out, keeps its result, and tells the module's current actor."""

    def __init__(
        self,
        cell: ModuleCell,
        phase: Phase,
        token: int,
        *,
        phases: Phases,
        timers: Timers,
        timeout: float,
    ) -> None:
        self.cell = cell
        self.phase = phase
        self.token = token
        self.done = False
        self.identity: Identity | None = None
        self.error: BaseException | None = None
        self._phases = phases
        self._timers = timers
        self._timeout = timeout
        self._plan: Plan | None = None
        self._scope: InterruptScope | None = None
        self._leave: Callable[[], bool] | None = None
        self._cancelled = False
        self._begun = False
        self._watched = False
        self._ending = threading.Lock()
        self._timer: Timer | None = None
        self._observer: PhaseObserver | None = None

    def start(self, threads: ThreadCache, lane: Lane, together: Callable[[PhaseJob], None]) -> None:
        """Carry it out as it is planned. Raises RuntimeError when there is no thread."""
        self._plan = plan = self._phases.plan(self.cell.spec, self.phase)
        match plan:
            case Here(call):
                self._observe()
                self._run(call)
            case OnOwnThread():
                threads.run(self.run)
            case Together():
                together(self)
            case InLane():
                self.alone(lane)
            case Listen(listen):
                self.begin()
                try:
                    listen(self.report)
                except BaseException as error:
                    self.report(error)

    def set_leave(self, leave: Callable[[], bool]) -> None:
        """`leave` gives its place away; False when it never will begin now. On RuntimeError it must be called again."""
        self._leave = leave

    def alone(self, lane: Lane) -> None:
        """Carry it out in a place of the lane. Raises RuntimeError when there is no thread."""
        if self._cancelled:
            self.report(TransientError(f"phase {self.phase} was cancelled"))
            return
        self._scope = InterruptScope()
        self._watched = False  # it waits
        self._cancel_timer()
        # A module that has begun is finished before another begins: what was seen of it is still so.
        place = lane.run(self.run, Turn.GOES_ON)
        self.set_leave(lambda: lane.leave(place))
        if self._cancelled:  # `cancel` sets this and then looks for the place: one of the two sees the other
            self.cancel()

    def run(self) -> None:
        """Carry it out on this thread, alone."""
        assert isinstance(self._plan, OnThread)
        call = self._plan.call
        scope = self._scope = self._scope or InterruptScope()
        try:
            self.begin(scope)
        except BaseException as error:  # no thread for the timers, perhaps
            self.report(error)
        else:
            with doing(f"{self.phase} of {self.cell.spec.name}"):
                self._run(partial(call, scope))

    def begin(self, scope: InterruptScope | None = None) -> None:
        """From now on it is observed and may be overdue; `scope` interrupts it, unless giving its place away does."""
        self._scope = scope
        if not self._begun:
            self._begun = True
            self._observe()
        self._watched = True
        self.watch()

    def watch(self) -> None:
        """See to it that its actor is told when it is overdue, unless it waits; again, after a restart of the actor."""
        if self._watched and not self.done and self._timer is None:
            self._timer = self._timers.after(self._timeout, self._overdue)

    def cancel(self) -> None:
        """Interrupt it and give its place away. May block: not for an actor's thread."""
        interrupt = self.begin_cancel()
        if interrupt is not None:
            interrupt()

    def begin_cancel(self) -> Callable[[], object] | None:
        """Give its place away. What interrupts it is returned, to be called where that may block.

        None: nothing has to. Raises RuntimeError when there is no thread for the next job: then call it again.
        """
        self._cancelled = True
        if self._leave is not None and not self._leave():
            self.report(TransientError(f"phase {self.phase} was cancelled before it began"))
            return None
        if self._scope is not None:
            return self._scope.begin_cancel()
        if isinstance(self._plan, Listen):  # nobody's thread is held up by it
            self.report(TransientError(f"phase {self.phase} was cancelled"))
        return None

    def interrupt_with(self, scope: InterruptScope) -> None:
        """This job was the last to leave its batch, which `scope` interrupts."""
        self._scope = scope

    def report_no_thread(self, error: RuntimeError) -> None:
        """There is no thread to be had: an attempt that failed, and not for ever."""
        self.report(TransientError(f"no thread for phase {self.phase}: {error}"))

    def report(self, error: BaseException | None) -> None:
        """It has ended; the first word counts."""
        if not self._ending.acquire(blocking=False):
            return
        self._cancel_timer()
        if self._observer is not None:
            self._observer.ended(error)
        self.error = error
        self.done = True
        self.cell.tell(PhaseReported(self))

    def _overdue(self) -> None:
        self._timer = None
        self.cell.tell(PhaseOverdue(self))

    def _cancel_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _observe(self) -> None:
        attempt = self.cell.attempt
        if attempt is not None:
            self._observer = attempt.phase(self.phase)

    def _run(self, call: Callable[[], Identity | None]) -> None:
        error: BaseException | None = None
        observer = self._observer
        around: AbstractContextManager[None] = nullcontext() if observer is None else observer.current()
        try:
            with around:
                self.identity = call()
        except BaseException as raised:
            error = raised
        self.report(error)
