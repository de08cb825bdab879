"""The module actor, real, under a real supervisor: with scripted phases, manual timers and a clock moved by hand."""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from queue import SimpleQueue
from typing import Any

import pykka
import pytest
from pykka.messages import ProxyCall

from pgflow_starter import Backoff, DatabaseError, DefinitionError, ModuleActor, ModuleState, NotReadyError
from pgflow_starter.actors.board import Board, ModuleCell
from pgflow_starter.actors.messages import DatabaseBack, PhaseOverdue, PhaseReported, RetryDue, WorkerLost
from pgflow_starter.actors.module import ModuleWorld
from pgflow_starter.actors.threads import Lane, ThreadCache
from pgflow_starter.core.modules import ModuleSpec, module_specs
from pgflow_starter.core.state import Phase, phases_of
from pgflow_starter.ports import CancelScope
from pgflow_starter.supervision import ChildSpec, SupervisorActor, SupervisorFlags
from pgflow_starter.testing import ManualTimers
from tests.support.waiting import eventually

WAIT = 10.0
PHASE_TIMEOUT = 30.0
AWAY = DatabaseError("server closed the connection", error_type="OperationalError", connection_lost=True)


class MuteError(BaseException):
    """Not even an Exception, and without a text."""

    def __str__(self) -> str:
        raise RuntimeError

    def __repr__(self) -> str:
        return "MuteError()"


class Hang:
    """What a phase does when it hangs: it says that it began, and returns or raises when it is let go."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error
        self.begun = threading.Event()
        self.let_go = threading.Event()
        self.cancelled = threading.Event()

    def run(self, scope: CancelScope) -> None:
        with scope.interruptible(self.cancelled.set):
            self.begun.set()
            self.let_go.wait(WAIT)
        if self.error is not None:
            raise self.error


class ScriptedPhases:
    """`ports.Phases`: each call takes the next line of its phase's script; succeeds when there is none."""

    def __init__(self) -> None:
        self.script: defaultdict[tuple[str, Phase], deque[BaseException | Hang | None]] = defaultdict(deque)
        self.ran: list[tuple[str, Phase]] = []
        self.hangs: list[Hang] = []

    def on(self, phase: str, *lines: BaseException | Hang | None, module: str = "shop") -> None:
        self.script[module, Phase(phase)].extend(lines)
        self.hangs += [line for line in lines if isinstance(line, Hang)]

    def run(self, spec: ModuleSpec, phase: Phase, scope: CancelScope) -> str | None:
        self.ran.append((spec.name, phase))
        script = self.script[spec.name, phase]
        line = script.popleft() if script else None
        if isinstance(line, Hang):
            line.run(scope)
        elif line is not None:
            raise line
        return "orders" if phase is Phase.REGISTRY else None


class Probe:
    """`ports.Observer` and `AttemptObserver`: what ended, in a queue; `fail_once` makes the next call raise."""

    def __init__(self) -> None:
        self.began: list[int] = []
        self.endings: SimpleQueue[tuple[ModuleState, float | None]] = SimpleQueue()
        self.fail_once: BaseException | None = None

    def started(self, modules: Sequence[ModuleSpec]) -> None: ...

    def ready(self, states: Sequence[ModuleState], seconds: float) -> None: ...

    def attempt(self, state: ModuleState, previous: Any) -> Probe:
        self.began.append(state.attempts)
        error, self.fail_once = self.fail_once, None
        if error is not None:
            raise error
        return self

    def phase(self, phase: Phase) -> AbstractContextManager[None]:
        return nullcontext()

    def ended(self, state: ModuleState, delay: float | None) -> None:
        self.endings.put((state, delay))


class NoOutage:
    outage = None

    def watch(self, back: Callable[[], object]) -> None: ...


class Rig:
    """Module actors under a supervisor, and what the test holds them by."""

    def __init__(self) -> None:
        self.timers = ManualTimers()
        self.phases, self.probe = ScriptedPhases(), Probe()
        self.threads = ThreadCache("pgflow-test")
        self.unit: Callable[[], float] = lambda: 0.5
        self._supervisor: pykka.ActorRef[Any] | None = None

    def start(self, *modules: str, strategy: str = "polling", width: int = 10) -> None:
        clock = self.timers.clock
        specs = module_specs(modules or ("shop",), ())
        self.board = Board(specs, phases_of(strategy), clock, NoOutage(), self.probe.ready)
        world = ModuleWorld(
            board=self.board,
            phases=self.phases,
            backoff=Backoff(base=1, maximum=30, jitter=0),
            phase_timeout=PHASE_TIMEOUT,
            clock=clock,
            unit=self.unit,
            timers=self.timers,
            threads=self.threads,
            lane=Lane(self.threads, width),
            observer=self.probe,
            redact=lambda text: text.replace("secret", "***"),
        )
        self._supervisor = SupervisorActor.start(
            "modules",
            [ChildSpec(cell.spec.name, partial(ModuleActor.start, cell, world)) for cell in self.board.cells],
            clock=clock,
            flags=SupervisorFlags(max_restarts=5),
        )

    def stop(self) -> None:
        for line in self.phases.hangs:
            line.let_go.set()
        if self._supervisor is not None:
            self._supervisor.stop()
        assert self.threads.close(WAIT) == 0

    @property
    def cell(self) -> ModuleCell:
        return self.board.cells[0]

    @property
    def state(self) -> ModuleState:
        state = self.board.state_of("shop")
        assert state is not None
        return state

    def reason(self) -> str:
        assert self.state.last_error is not None
        return self.state.last_error.reason

    def settle(self) -> None:
        """Until the module's actor has carried out all that it was told so far."""
        ref = self.cell.ref
        assert ref is not None
        ref.ask(ProxyCall(attr_path=("name",), args=(), kwargs={}), timeout=WAIT)

    def ended(self) -> float | None:
        """Wait for the end of an attempt; the delay until the next."""
        _, delay = self.probe.endings.get(timeout=WAIT)
        self.settle()
        return delay

    def advance(self, seconds: float) -> None:
        self.timers.advance(seconds)
        self.settle()

    def crash(self, kill: Callable[[pykka.ActorRef[Any]], object]) -> None:
        """End the actor in some way and wait for its successor."""
        dead = self.cell.ref
        assert dead is not None
        kill(dead)
        eventually(lambda: self.cell.ref is not dead, what="the restart")
        self.settle()

    @contextmanager
    def without_actor(self) -> Iterator[None]:
        """While inside, the module's actor is gone and what it is told is lost."""
        assert self._supervisor is not None
        supervisor = self._supervisor.proxy()
        supervisor.terminate_child("shop").get(timeout=WAIT)
        yield
        supervisor.restart_child("shop").get(timeout=WAIT)
        self.settle()


@pytest.fixture
def rig() -> Iterator[Rig]:
    made = Rig()
    yield made
    made.stop()


def hang(
    rig: Rig,
    phase: str,
    *,
    error: BaseException | None = None,
    module: str = "shop",
) -> Hang:
    """Script a phase that hangs once, let go by the test or at its end."""
    line = Hang(error)
    rig.phases.on(phase, line, module=module)
    return line


# The straight way


@pytest.mark.parametrize("strategy", ["polling", "notify"])
def test_a_module_goes_through_its_phases_and_has_succeeded(rig: Rig, strategy: str) -> None:
    rig.start(strategy=strategy)
    assert rig.ended() is None
    assert [phase for _, phase in rig.phases.ran] == list(phases_of(strategy))
    state = rig.state
    assert (state.status, state.attempts, state.phase, state.slug) == ("succeeded", 1, None, "orders")
    assert (state.last_error, state.next_attempt_at, rig.timers.pending) == (None, None, 0)
    rig.board.await_ready(0)


def test_a_transient_failure_is_tried_again_after_its_delay_and_not_before(rig: Rig) -> None:
    rig.phases.on("worker", AWAY, AWAY)
    rig.start()
    assert rig.ended() == 1
    state = rig.state
    assert (state.status, state.attempts, rig.reason()) == ("retrying", 1, "server closed the connection")
    assert state.next_attempt_at is not None
    assert (state.next_attempt_at - rig.timers.clock.now()).total_seconds() == 1
    with pytest.raises(NotReadyError, match=r"shop: retrying, attempt 1, phase worker failed.*next attempt in 1\.0 s"):
        rig.board.await_ready(0)
    rig.advance(0.99)
    assert rig.state is state
    rig.advance(0.01)
    assert rig.ended() == 2
    rig.advance(2)
    assert rig.ended() is None
    assert (rig.state.status, rig.state.attempts, rig.state.last_error) == ("succeeded", 3, None)
    assert rig.probe.began == [1, 2, 3]
    assert rig.timers.pending == 0


def test_a_permanent_failure_leaves_no_timer_and_tells_no_password(rig: Rig) -> None:
    rig.phases.on("registry", DefinitionError("no flow, says secret"))
    rig.start()
    assert rig.ended() is None
    state = rig.state
    assert (state.status, state.attempts, rig.reason()) == ("failed_permanent", 1, "no flow, says ***")
    assert (state.next_attempt_at, rig.timers.pending) == (None, 0)
    rig.advance(3600)
    assert rig.state is state
    rig.board.await_ready(0)


# Messages that are too late, and those that ask


def test_stale_timed_messages_change_nothing(rig: Rig) -> None:
    rig.phases.on("worker", AWAY)
    rig.start()
    rig.ended()
    old_job = rig.cell.job
    rig.board.retry_now("shop")
    assert rig.ended() is None
    state = rig.state
    assert rig.timers.pending == 1
    rig.advance(3600)
    for message in (
        RetryDue(1),
        RetryDue(99),
        PhaseReported(old_job),
        PhaseOverdue(old_job),
        PhaseOverdue(rig.cell.job),
    ):
        rig.cell.tell(message)
    rig.settle()
    assert rig.state is state
    assert (state.status, state.attempts) == ("succeeded", 2)


def test_a_report_told_twice_is_not_taken_for_that_of_the_next_phase(rig: Rig) -> None:
    registry, worker = hang(rig, "registry"), hang(rig, "worker")
    rig.start()
    assert registry.begun.wait(WAIT)
    job = rig.cell.job
    registry.let_go.set()
    assert worker.begun.wait(WAIT)
    state = rig.state
    rig.cell.tell(PhaseReported(job))
    rig.settle()
    assert rig.state is state
    assert state.phase == "worker"


def test_many_calls_to_retry_now_during_an_attempt_become_one_more(rig: Rig) -> None:
    line = hang(rig, "worker")
    rig.start()
    assert line.begun.wait(WAIT)
    for _ in range(100):
        rig.board.retry_now("shop")
    rig.settle()
    line.let_go.set()
    rig.ended()
    rig.ended()
    assert (rig.state.status, rig.state.attempts) == ("succeeded", 2)


def test_retry_now_while_waiting_does_not_wait_for_the_timer(rig: Rig) -> None:
    rig.phases.on("worker", AWAY)
    line = hang(rig, "worker")
    rig.start()
    rig.ended()
    rig.board.retry_now("orders")
    assert line.begun.wait(WAIT)
    for _ in range(2):
        rig.board.retry_now("shop")
        rig.board.retry_now("nobody")
    rig.settle()
    line.let_go.set()
    rig.ended()
    rig.ended()
    assert (rig.state.status, rig.state.attempts) == ("succeeded", 3)


@pytest.mark.parametrize(
    ("error", "status"), [(None, "succeeded"), (AWAY, "retrying"), (DefinitionError("no"), "failed_permanent")]
)
def test_retry_now_on_a_succeeded_module_keeps_its_status_until_the_result(
    rig: Rig, error: Exception | None, status: str
) -> None:
    rig.start()
    rig.ended()
    line = hang(rig, "worker", error=error)
    rig.board.retry_now("shop")
    assert line.begun.wait(WAIT)
    assert (rig.state.status, rig.state.phase, rig.state.attempts) == ("succeeded", "worker", 2)
    assert rig.board.status().ready
    line.let_go.set()
    rig.ended()
    assert (rig.state.status, rig.state.attempts) == (status, 2)


def test_a_database_that_is_back_ends_the_wait(rig: Rig) -> None:
    rig.phases.on("worker", AWAY)
    rig.start()
    rig.ended()
    rig.cell.tell(DatabaseBack())
    assert rig.ended() is None
    assert rig.state.attempts == 2


def test_a_lost_worker_makes_a_succeeded_module_retry_its_worker_phase(rig: Rig) -> None:
    rig.start()
    rig.ended()
    line = hang(rig, "worker")
    rig.cell.lost.append("RuntimeError: boom")
    rig.cell.tell(WorkerLost())
    assert line.begun.wait(WAIT)
    assert (rig.state.status, rig.state.phase, rig.board.status().ready) == ("retrying", "worker", False)
    assert rig.reason() == "the worker died and is started again: RuntimeError: boom"
    line.let_go.set()
    rig.ended()
    assert (rig.state.status, rig.state.last_error) == ("succeeded", None)


# Phases that hang


def test_the_attempt_after_a_hung_phase_begins_only_when_its_thread_has_ended(rig: Rig) -> None:
    line = hang(rig, "registry")
    rig.start()
    assert line.begun.wait(WAIT)
    rig.advance(PHASE_TIMEOUT)
    assert rig.ended() == 1
    assert (rig.state.status, rig.state.phase, rig.state.attempts) == ("retrying", None, 1)
    assert rig.reason() == "phase registry has not ended within 30 s"
    rig.advance(1)
    rig.board.retry_now("shop")
    rig.advance(3600)
    assert len(rig.phases.ran) == rig.state.attempts == 1
    assert rig.reason().endswith("30 s; the next attempt begins when it has ended")
    assert (rig.state.next_attempt_at, rig.timers.pending) == (None, 0)
    line.let_go.set()
    assert rig.ended() is None
    assert (rig.state.status, rig.state.attempts) == ("succeeded", 2)


def test_a_hung_phase_that_ends_early_still_waits_for_the_timer_and_its_result_is_ignored(rig: Rig) -> None:
    line = hang(rig, "registry", error=DefinitionError("late"))
    rig.start()
    assert line.begun.wait(WAIT)
    rig.advance(PHASE_TIMEOUT)
    rig.ended()
    line.let_go.set()
    eventually(lambda: not rig.cell.machine.busy)
    assert (rig.state.status, rig.state.attempts) == ("retrying", 1)
    rig.advance(1)
    assert rig.ended() is None
    assert (rig.state.status, rig.state.attempts) == ("succeeded", 2)


def test_an_overdue_phase_is_cancelled_and_gives_its_place_to_others(rig: Rig) -> None:
    line = hang(rig, "worker")
    other = hang(rig, "registry", module="other")
    rig.start("shop", "other", width=1)
    assert line.begun.wait(WAIT)
    other.let_go.set()
    eventually(lambda: rig.board.cells[1].machine.state.phase is Phase.WORKER)
    assert ("other", Phase.WORKER) not in rig.phases.ran
    rig.advance(PHASE_TIMEOUT)
    assert rig.ended() == 1
    assert line.cancelled.wait(WAIT)
    eventually(lambda: ("other", Phase.WORKER) in rig.phases.ran)
    rig.ended()


def test_an_attempt_that_gets_no_thread_has_failed_and_is_tried_again(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_thread(_: Callable[[], object]) -> None:
        raise RuntimeError("can't start new thread")

    line = hang(rig, "registry")
    rig.start()
    assert line.begun.wait(WAIT)
    with monkeypatch.context() as patch:
        patch.setattr(rig.threads, "run", no_thread)
        line.let_go.set()
        assert rig.ended() == 1
    assert (rig.state.status, rig.reason()) == ("retrying", "RuntimeError: can't start new thread")
    rig.advance(1)
    rig.ended()
    assert rig.state.status == "succeeded"


# Exceptions that are no Exception


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), MuteError()], ids=repr)
@pytest.mark.parametrize(("phase", "status"), [("registry", "failed_permanent"), ("worker", "retrying")])
def test_whatever_a_phase_raises_is_the_attempts_result_and_nobodys_end(
    rig: Rig, phase: str, status: str, error: BaseException
) -> None:
    rig.phases.on(phase, error)
    rig.start()
    ref = rig.cell.ref
    rig.ended()
    assert (rig.state.status, rig.state.attempts) == (status, 1)
    assert rig.reason().startswith(type(error).__name__)
    assert rig.cell.ref is ref or ref is None
    rig.board.retry_now("shop")
    rig.ended()
    assert (rig.state.status, rig.state.attempts) == ("succeeded", 2)


# Crashes: the successor goes on where the dead one stood

KILLS: dict[str, Callable[[pykka.ActorRef[Any]], object]] = {
    "stopped from outside": lambda ref: ref.stop(block=False),
    "a message that raises": lambda ref: ref.tell(ProxyCall(attr_path=("no_such_thing",), args=(), kwargs={})),
}
kills = pytest.mark.parametrize("kill", KILLS.values(), ids=KILLS)


@kills
def test_a_crash_during_a_phase_keeps_the_attempt_and_takes_its_result(rig: Rig, kill: Callable[..., object]) -> None:
    line = hang(rig, "worker")
    rig.start()
    assert line.begun.wait(WAIT)
    rig.crash(kill)
    assert (rig.state.phase, rig.state.attempts) == ("worker", 1)
    line.let_go.set()
    rig.ended()
    assert (rig.state.status, rig.state.attempts) == ("succeeded", 1)
    assert len(rig.phases.ran) == 2


@kills
def test_a_phase_is_still_watched_after_a_crash(rig: Rig, kill: Callable[..., object]) -> None:
    line = hang(rig, "worker")
    rig.start()
    assert line.begun.wait(WAIT)
    rig.crash(kill)
    rig.advance(PHASE_TIMEOUT)
    assert rig.ended() == 1
    rig.crash(kill)
    line.let_go.set()
    eventually(lambda: not rig.cell.machine.busy)
    rig.advance(1)
    rig.ended()
    assert (rig.state.status, rig.state.attempts) == ("succeeded", 2)


@kills
def test_a_crash_between_attempts_changes_neither_their_number_nor_the_delay(
    rig: Rig, kill: Callable[..., object]
) -> None:
    rig.phases.on("worker", AWAY, AWAY)
    rig.start()
    rig.ended()
    rig.advance(0.5)
    rig.crash(kill)
    state = rig.state
    rig.advance(0.49)
    assert rig.state is state
    rig.advance(0.01)
    assert rig.ended() == 2
    rig.advance(1.99)
    assert rig.state.attempts == 2
    rig.advance(0.01)
    rig.ended()
    assert (rig.state.status, rig.state.attempts) == ("succeeded", 3)


@kills
@pytest.mark.parametrize("error", [None, DefinitionError("no")], ids=["succeeded", "failed"])
def test_a_crash_after_the_end_changes_nothing(rig: Rig, kill: Callable[..., object], error: Exception | None) -> None:
    rig.phases.on("registry", error)
    rig.start()
    rig.ended()
    state = rig.state
    rig.crash(kill)
    rig.advance(3600)
    assert rig.state is state


def test_what_a_dead_actor_was_asked_is_done_by_its_successor(rig: Rig) -> None:
    rig.start()
    rig.ended()
    rig.cell.retry_wanted = True
    rig.crash(KILLS["stopped from outside"])
    rig.ended()
    assert rig.state.attempts == 2
    rig.cell.lost.append("boom")
    rig.crash(KILLS["stopped from outside"])
    rig.ended()
    assert (rig.state.status, rig.state.attempts) == ("succeeded", 3)


def test_a_timer_that_fired_while_there_was_no_actor_is_armed_again(rig: Rig) -> None:
    rig.phases.on("worker", AWAY)
    rig.start()
    rig.ended()
    with rig.without_actor():
        rig.timers.advance(1)
        assert rig.timers.pending == 0
    rig.advance(0)
    rig.ended()
    assert (rig.state.status, rig.state.attempts) == ("succeeded", 2)


def test_a_phase_that_was_overdue_while_there_was_no_actor_is_watched_again(rig: Rig) -> None:
    line = hang(rig, "worker")
    rig.start()
    assert line.begun.wait(WAIT)
    with rig.without_actor():
        rig.timers.advance(PHASE_TIMEOUT)
        assert rig.timers.pending == 0
    assert (rig.state.phase, rig.state.attempts) == ("worker", 1)
    rig.advance(PHASE_TIMEOUT)
    assert rig.ended() == 1


def test_an_actor_that_dies_of_a_result_leaves_it_to_its_successor(rig: Rig) -> None:
    draws = deque([0.5])
    errors = deque([RuntimeError("no randomness")])

    def unit() -> float:
        if errors:
            raise errors.popleft()
        return draws.popleft()

    rig.unit = unit
    rig.phases.on("worker", AWAY)
    rig.start()
    assert rig.ended() == 1
    assert (rig.state.status, rig.state.attempts) == ("retrying", 1)


@pytest.mark.parametrize("error", [RuntimeError("boom"), SystemExit(3)], ids=repr)
def test_an_actor_that_dies_as_an_attempt_begins_has_begun_it(rig: Rig, error: BaseException) -> None:
    rig.probe.fail_once = error
    rig.start()
    eventually(lambda: rig.state.status.terminal)
    assert (rig.state.status, rig.state.attempts) == ("succeeded", 1)
    assert len(rig.phases.ran) == 2
