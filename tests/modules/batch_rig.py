"""A batch of jobs without actors: phases whose calls the test lets go, manual timers, and what each job was told."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from queue import Empty, SimpleQueue
from typing import Any, cast

import pytest

from pgflow_starter import TransientError
from pgflow_starter.core.modules import ModuleSpec, module_specs
from pgflow_starter.core.phases import Phase, phases_of
from pgflow_starter.modules.board import Board
from pgflow_starter.modules.messages import PhaseReported
from pgflow_starter.modules.phase_batches import PhaseBatches
from pgflow_starter.modules.phase_job import PhaseJob
from pgflow_starter.modules.phase_plan import Plan, Together
from pgflow_starter.ports import CancelScope
from pgflow_starter.testing import ManualTimers
from pgflow_starter.threads.cache import ThreadCache
from pgflow_starter.threads.lane import Lane
from tests.modules.rig import PHASE_TIMEOUT, WAIT, NoOutage
from tests.support.waiting import eventually


class Round:
    """One call of the phases: it says who is in it, and waits to be let go."""

    def __init__(self, names: Sequence[str], scope: CancelScope) -> None:
        self.names = list(names)
        self.scope = scope
        self.cancelled = threading.Semaphore(0)
        self.go_on = threading.Event()
        self.answer: Sequence[bool] | BaseException | None = None

    def end(self, answer: Sequence[bool] | BaseException | None = None) -> None:
        self.answer = answer
        self.go_on.set()

    def wait(self) -> Sequence[bool]:
        with self.scope.interruptible(self.cancelled.release):
            assert self.go_on.wait(6 * WAIT)
        if isinstance(self.answer, BaseException):
            raise self.answer
        return [True] * len(self.names) if self.answer is None else self.answer


class Rounds:
    """`phase_plan.Phases`: its calls are rounds, in two queues."""

    def __init__(self) -> None:
        self.together: SimpleQueue[Round] = SimpleQueue()
        self.alone: SimpleQueue[Round] = SimpleQueue()
        self.all: list[Round] = []

    def plan(self, spec: ModuleSpec, phase: Phase) -> Plan:
        return Together(lambda scope: self.run(spec, scope))

    def run(self, spec: ModuleSpec, scope: CancelScope) -> None:
        self._round(self.alone, [spec.name], scope).wait()

    def run_together(self, specs: Sequence[ModuleSpec], scope: CancelScope) -> Sequence[bool]:
        return self._round(self.together, [spec.name for spec in specs], scope).wait()

    def _round(self, queue: SimpleQueue[Round], names: Sequence[str], scope: CancelScope) -> Round:
        made = Round(names, scope)
        self.all.append(made)
        queue.put(made)
        return made


class Told:
    """In place of a module's actor: what it was told."""

    def __init__(self) -> None:
        self.messages: SimpleQueue[Any] = SimpleQueue()

    def tell(self, message: object) -> None:
        self.messages.put(message)


class Square:
    """A batch of modules named m0, m1, …, and their jobs."""

    def __init__(self) -> None:
        self.timers = ManualTimers()
        self.threads = ThreadCache("pgflow-test")
        self.phases = Rounds()
        self.jobs: dict[str, PhaseJob] = {}
        self.open(width=10)

    def open(self, width: int) -> None:
        self.lane = Lane(self.threads, width)
        self.batches = PhaseBatches(self.phases, self.lane)

    def enter(self, count: int) -> list[PhaseJob]:
        made = [self.job(f"m{len(self.jobs)}") for _ in range(count)]
        for job in made:
            job.start(self.threads, self.lane, self.batches.enter)
        return made

    def job(self, name: str) -> PhaseJob:
        clock = self.timers.clock
        board = Board(module_specs((name,), ()), phases_of("polling"), clock, NoOutage(), lambda *_: None)
        cell = board.cells[0]
        cell.ref = cast("Any", Told())
        job = PhaseJob(cell, Phase.WORKER, 1, phases=self.phases, timers=self.timers, timeout=PHASE_TIMEOUT)
        self.jobs[name] = job
        return job

    def together(self) -> Round:
        return self.phases.together.get(timeout=WAIT)

    def alone(self) -> Round:
        return self.phases.alone.get(timeout=WAIT)

    def settled(self) -> None:
        """Nobody is served, or waits."""
        eventually(lambda: not self.threads.busy())
        assert self.batches.gatherer.counts() == (0, 0, 0)

    def close(self) -> None:
        for made in self.phases.all:
            made.go_on.set()
        assert self.threads.close(WAIT) == 0


@pytest.fixture(name="square")
def a_square() -> Iterator[Square]:
    made = Square()
    yield made
    made.close()


def told(job: PhaseJob) -> Any:
    ref: Any = job.cell.ref
    return ref.messages.get(timeout=WAIT)


def ended(job: PhaseJob) -> BaseException | None:
    """Wait for the job's report; how it ended."""
    message = told(job)
    assert isinstance(message, PhaseReported)
    assert message.job is job
    assert job.done
    error: BaseException | None = job.error
    return error


def told_nothing(job: PhaseJob) -> bool:
    ref: Any = job.cell.ref
    try:
        ref.messages.get_nowait()
    except Empty:
        return True
    return False


def reason(job: PhaseJob) -> str:
    error = ended(job)
    assert isinstance(error, TransientError)
    return str(error)


def no_thread(_: Callable[[], object]) -> None:
    raise RuntimeError("can't start new thread")
