"""`PhaseJob`: one phase of one attempt on its thread. It outlives the actor that started it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from pgflow_starter.actors.board import ModuleCell
from pgflow_starter.actors.messages import PhaseOverdue, PhaseReported
from pgflow_starter.actors.threads import Lane, LanePlace, ThreadCache, Turn
from pgflow_starter.core.flow import Flow, Job
from pgflow_starter.core.state import Phase
from pgflow_starter.errors import TransientError
from pgflow_starter.ports import Phases, Timer, Timers


class PhaseScope:
    """Interrupts a phase wherever it said that it can be. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cancel: Callable[[], None] | None = None
        self._cancelled = False

    @contextmanager
    def interruptible(self, cancel: Callable[[], None]) -> Iterator[None]:
        """While inside, `cancel` interrupts; at once when the phase was given up already."""
        with self._lock:
            self._cancel = cancel
            late = self._cancelled
        if late:
            cancel()
        try:
            yield
        finally:
            with self._lock:
                self._cancel = None

    def cancel(self) -> None:
        """Interrupt the phase. May block for the network's time: not for an actor's or the timers' thread."""
        with self._lock:
            self._cancelled = True
            cancel = self._cancel
        if cancel is not None:
            cancel()


class PhaseJob:
    """Runs the phase, keeps its result, and tells the module's current actor."""

    def __init__(self, cell: ModuleCell, phase: Phase, token: int, timeout: float, timers: Timers) -> None:
        self.phase = phase
        self.token = token
        self.done = False
        self.slug: str | None = None
        self.error: BaseException | None = None
        self.scope = PhaseScope()
        self._cell = cell
        self._timeout = timeout
        self._timers = timers
        self._timer: Timer | None = None
        self._place: tuple[Lane, LanePlace] | None = None

    def start(self, phases: Phases, threads: ThreadCache, lane: Lane) -> None:
        """Run on a thread. A definition may hang, so it gets one at once; the rest share the pool's connections.

        That of our own classes cannot hang, and is asked here.
        """
        if self.phase is Phase.REGISTRY and type(self._cell.spec.module) in {Flow, Job}:
            self._run(phases)
        elif self.phase is Phase.REGISTRY:
            threads.run(lambda: self._run(phases))
        else:
            # A module that has begun is finished before another begins: what was seen of it is still so.
            turn = Turn.BEGINS if self.phase is Phase.WORKER else Turn.GOES_ON
            self._place = lane, lane.run(lambda: self._run(phases), turn)

    def watch(self) -> None:
        """Arm the timer that tells when the phase is overdue (again, after a restart of its actor)."""
        if not self.done:
            self._timer = self._timers.after(self._timeout, lambda: self._cell.tell(PhaseOverdue(self)))

    def abandon(self) -> None:
        """Interrupt it and give its place in the lane away. May block: not for an actor's thread."""
        if self._place is not None:
            lane, place = self._place
            if not lane.leave(place):
                self._report(TransientError(f"phase {self.phase} was cancelled before it began"))
                return
        self.scope.cancel()

    def _run(self, phases: Phases) -> None:
        error: BaseException | None = None
        try:
            self.watch()
            attempt = self._cell.attempt
            around: AbstractContextManager[None] = nullcontext() if attempt is None else attempt.phase(self.phase)
            with around:
                self.slug = phases.run(self._cell.spec, self.phase, self.scope)
        except BaseException as raised:
            error = raised
        self._report(error)

    def _report(self, error: BaseException | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self.error = error
        self.done = True
        self._cell.tell(PhaseReported(self))
