"""One phase of one attempt: where it is carried out, and that its end is told once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from queue import Empty, SimpleQueue
from typing import Any, cast

import pytest

from pgflow_starter import DatabaseError, TransientError
from pgflow_starter.core.modules import ModuleSpec, module_specs
from pgflow_starter.core.phases import Phase, phases_of
from pgflow_starter.core.state import Identity, ModuleType
from pgflow_starter.modules.board import Board
from pgflow_starter.modules.messages import PhaseOverdue, PhaseReported
from pgflow_starter.modules.phase_job import PhaseJob
from pgflow_starter.modules.phase_plan import Here, Plan
from pgflow_starter.ports import CancelScope
from pgflow_starter.testing import ManualTimers
from pgflow_starter.threads.cache import ThreadCache
from pgflow_starter.threads.interrupt_scope import InterruptScope
from pgflow_starter.threads.lane import Lane
from tests.modules.rig import PHASE_TIMEOUT, WAIT, Hang, NoOutage, nothing_at_once
from tests.support.threads import interrupt

ORDERS = Identity("orders", ModuleType.JOB)


class Listening:
    """`phase_plan.Phases`: what is at once, what hangs, and who waits for LISTEN."""

    def __init__(self) -> None:
        self.here: Callable[[], Identity | None] | None = None
        self.hang = Hang()
        self.waiting: list[Callable[[BaseException | None], object]] = []
        self.listen_raises: BaseException | None = None

    def plan(self, spec: ModuleSpec, phase: Phase) -> Plan:
        if self.here is not None:
            return Here(self.here)
        return nothing_at_once(phase, self.run, self.listen)

    def run(self, scope: CancelScope) -> Identity:
        self.hang.run(scope)
        return ORDERS

    def run_together(self, specs: Sequence[ModuleSpec], scope: CancelScope) -> Sequence[bool]:
        raise NotImplementedError

    def listen(self, done: Callable[[BaseException | None], object]) -> None:
        if self.listen_raises is not None:
            raise self.listen_raises
        self.waiting.append(done)


class Desk:
    """A job's surroundings; what its actor was told is in `told`."""

    def __init__(self) -> None:
        self.timers, self.phases = ManualTimers(), Listening()
        self.threads = ThreadCache("pgflow-test")
        self.lane = Lane(self.threads, 1)
        self.told: SimpleQueue[Any] = SimpleQueue()
        board = Board(module_specs(("shop",), ()), phases_of("notify"), self.timers.clock, NoOutage(), lambda *_: None)
        self.cell = board.cells[0]
        self.cell.ref = cast("Any", self)

    def tell(self, message: object) -> None:
        self.told.put(message)

    def start(self, phase: str, together: Callable[[PhaseJob], None] | None = None) -> PhaseJob:
        job = PhaseJob(self.cell, Phase(phase), 1, phases=self.phases, timers=self.timers, timeout=PHASE_TIMEOUT)
        job.start(self.threads, self.lane, together or (lambda _: pytest.fail("it waits for nobody")))
        return job

    def ended(self, job: PhaseJob) -> BaseException | None:
        message = self.told.get(timeout=WAIT)
        assert isinstance(message, PhaseReported)
        assert (message.job, job.done) == (job, True)
        return job.error

    def told_nothing(self) -> bool:
        try:
            self.told.get_nowait()
        except Empty:
            return True
        return False


@pytest.fixture
def desk() -> Iterator[Desk]:
    made = Desk()
    yield made
    made.phases.hang.let_go.set()
    assert made.threads.close(WAIT) == 0


@pytest.mark.parametrize("phase", ["registry", "notify_db"])
def test_what_waits_for_nobody_is_done_here_and_needs_neither_thread_nor_timer(desk: Desk, phase: str) -> None:
    where: list[threading.Thread] = []

    def here() -> Identity:
        where.append(threading.current_thread())
        return ORDERS

    desk.phases.here = here
    job = desk.start(phase)
    assert (desk.ended(job), job.identity, where) == (None, ORDERS, [threading.current_thread()])
    assert desk.timers.pending == 0
    assert not desk.threads.names()


def test_what_it_raises_here_is_its_result(desk: Desk) -> None:
    error = SystemExit(3)

    def here() -> Identity:
        raise error

    desk.phases.here = here
    assert desk.ended(desk.start("registry")) is error


@pytest.mark.parametrize("phase", ["registry", "notify_db"])
def test_what_may_take_its_time_is_done_on_a_thread_and_may_be_overdue(desk: Desk, phase: str) -> None:
    job = desk.start(phase)
    assert desk.phases.hang.begun.wait(WAIT)
    desk.timers.advance(PHASE_TIMEOUT)
    assert desk.told.get(timeout=WAIT) == PhaseOverdue(job)
    job.cancel()
    assert desk.phases.hang.cancelled.wait(WAIT)
    desk.phases.hang.let_go.set()
    assert (desk.ended(job), job.identity) == (None, ORDERS)


def test_a_definition_that_hangs_does_so_beside_the_lane(desk: Desk, release: threading.Event) -> None:
    desk.lane.run(release.wait)
    desk.start("registry")
    assert desk.phases.hang.begun.wait(WAIT)
    release.set()


def test_listening_holds_no_thread_and_its_answer_ends_it(desk: Desk) -> None:
    job = desk.start("notify_register")
    assert desk.told_nothing()
    assert not desk.threads.names()
    error = DatabaseError("gone", error_type="OperationalError")
    desk.phases.waiting[0](error)
    assert desk.ended(job) is error
    assert desk.timers.pending == 0


def test_listening_that_takes_too_long_ends_when_it_is_cancelled_and_the_answer_comes_too_late(desk: Desk) -> None:
    job = desk.start("notify_register")
    desk.timers.advance(PHASE_TIMEOUT)
    assert desk.told.get(timeout=WAIT) == PhaseOverdue(job)
    job.cancel()
    assert str(desk.ended(job)) == "phase notify_register was cancelled"
    desk.phases.waiting[0](None)
    assert desk.told_nothing()
    assert isinstance(job.error, TransientError)


def test_without_a_thread_for_the_listener_it_has_failed(desk: Desk) -> None:
    desk.phases.listen_raises = RuntimeError("can't start new thread")
    assert desk.ended(desk.start("notify_register")) is desk.phases.listen_raises


def test_the_first_word_counts_whoever_says_it(desk: Desk) -> None:
    entered: list[PhaseJob] = []
    job = desk.start("worker", entered.append)
    assert entered == [job]
    together = threading.Barrier(8)
    errors = [ValueError(str(n)) for n in range(8)]

    def report(error: ValueError) -> None:
        together.wait(WAIT)
        job.report(error)

    callers = [threading.Thread(target=report, args=(error,)) for error in errors]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(WAIT)
    assert desk.ended(job) in errors
    assert desk.told_nothing()


def test_after_a_restart_of_its_actor_it_is_watched_anew_but_not_while_it_waits(
    desk: Desk, release: threading.Event
) -> None:
    waits = threading.Event()

    def wait() -> None:
        waits.set()
        release.wait()

    desk.lane.run(wait)
    assert waits.wait(WAIT)
    job = desk.start("notify_db")
    job.watch()
    desk.timers.advance(PHASE_TIMEOUT)
    assert desk.told_nothing()
    release.set()
    assert desk.phases.hang.begun.wait(WAIT)
    desk.timers.advance(PHASE_TIMEOUT - 1)
    job.watch()  # that is none of its time back
    desk.timers.advance(1)
    assert desk.told.get(timeout=WAIT) == PhaseOverdue(job)
    assert desk.timers.pending == 0
    job.watch()  # as a successor does: it may have been told to nobody
    desk.timers.advance(PHASE_TIMEOUT)
    assert desk.told.get(timeout=WAIT) == PhaseOverdue(job)


def test_without_a_thread_for_the_timers_it_has_failed(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    error = RuntimeError("can't start new thread")

    def refuse(*_: object) -> None:
        raise error

    monkeypatch.setattr(desk.timers, "after", refuse)
    assert desk.ended(desk.start("notify_db")) is error


# The scope


def test_a_scope_interrupts_once_what_may_be_interrupted() -> None:
    scope, interrupted = InterruptScope(), []
    interrupt(scope)
    with scope.interruptible(lambda: interrupted.append("late")):
        interrupt(scope)
    with scope.interruptible(lambda: interrupted.append("next")):
        pass
    assert interrupted == ["late", "next"]
    fresh = InterruptScope()
    with fresh.interruptible(lambda: interrupted.append("now")):
        interrupt(fresh)
        interrupt(fresh)
    interrupt(fresh)
    assert interrupted[2:] == ["now"]
