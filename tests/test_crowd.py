"""Crowd: the worker phases of many modules in one go, and what becomes of those that cannot be done so."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator, Sequence
from queue import Empty, SimpleQueue
from typing import Any, cast

import pytest

from pgflow_starter import DatabaseError, TransientError
from pgflow_starter.actors.board import Board
from pgflow_starter.actors.crowd import MOST, WIDTH, Crowd
from pgflow_starter.actors.messages import PhaseOverdue, PhaseReported
from pgflow_starter.actors.phase_job import PhaseJob
from pgflow_starter.actors.threads import Lane, ThreadCache
from pgflow_starter.core.modules import ModuleSpec, module_specs
from pgflow_starter.core.state import Phase, phases_of
from pgflow_starter.ports import CancelScope
from pgflow_starter.testing import ManualTimers
from tests.module_rig import PHASE_TIMEOUT, WAIT, NoOutage, Rig
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
    """`ports.Phases`: its calls are rounds, in two queues."""

    def __init__(self) -> None:
        self.together: SimpleQueue[Round] = SimpleQueue()
        self.alone: SimpleQueue[Round] = SimpleQueue()
        self.all: list[Round] = []

    def at_once(self, spec: ModuleSpec, phase: Phase) -> None: ...

    def run(self, spec: ModuleSpec, phase: Phase, scope: CancelScope) -> None:
        self._round(self.alone, [spec.name], scope).wait()

    def run_together(self, specs: Sequence[ModuleSpec], scope: CancelScope) -> Sequence[bool]:
        return self._round(self.together, [spec.name for spec in specs], scope).wait()

    def listen(self, spec: ModuleSpec, done: Callable[[BaseException | None], object]) -> None: ...

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
    """A crowd of modules named m0, m1, …, and their jobs."""

    def __init__(self) -> None:
        self.timers = ManualTimers()
        self.threads = ThreadCache("pgflow-test")
        self.phases = Rounds()
        self.jobs: dict[str, PhaseJob] = {}
        self.open(width=10)

    def open(self, width: int) -> None:
        self.lane = Lane(self.threads, width)
        self.crowd = Crowd(self.phases, self.lane)

    def enter(self, count: int) -> list[PhaseJob]:
        made = [self.job(f"m{len(self.jobs)}") for _ in range(count)]
        for job in made:
            job.start(self.threads, self.lane, self.crowd.enter)
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
        eventually(lambda: len(self.threads._idle) == len(self.threads._threads))
        assert (self.crowd._serving, self.crowd._waiting, self.crowd._batches) == (0, {}, {})

    def close(self) -> None:
        for made in self.phases.all:
            made.go_on.set()
        assert self.threads.close(WAIT) == 0


@pytest.fixture
def square() -> Iterator[Square]:
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


# Who is served with whom


def test_the_first_is_served_at_once_and_who_comes_meanwhile_in_batches(square: Square) -> None:
    square.enter(1)
    first = square.together()
    assert first.names == ["m0"]
    square.enter(1)
    second = square.together()
    rest = square.enter(MOST + 10)
    assert square.crowd._serving == WIDTH
    assert square.phases.together.empty()
    first.end()
    third = square.together()
    assert third.names == [f"m{n}" for n in range(2, 2 + MOST)]
    second.end()
    fourth = square.together()
    assert fourth.names == [f"m{n}" for n in range(2 + MOST, 2 + MOST + 10)]
    third.end()
    fourth.end()
    assert [ended(job) for job in square.jobs.values()] == [None] * (2 + len(rest))
    square.settled()
    assert square.timers.pending == 0


def test_a_batch_takes_its_place_in_the_lane(square: Square) -> None:
    square.open(width=1)
    hung = threading.Event()
    square.lane.run(lambda: hung.wait(WAIT))
    square.enter(3)
    assert square.phases.together.empty()
    hung.set()
    batch = square.together()
    assert batch.names == ["m0", "m1", "m2"]  # those who came while it waited for its place
    batch.end()
    square.jobs.popitem()
    assert [ended(job) for job in square.jobs.values()] == [None, None]


def test_those_that_are_not_done_together_run_alone(square: Square) -> None:
    square.enter(1)
    first = square.together()
    second_one = square.enter(1)
    square.together().end()
    assert ended(second_one[0]) is None
    jobs = square.enter(4)
    batch = square.together()
    batch.end([True, False, True, False])
    assert [ended(jobs[0]), ended(jobs[2])] == [None, None]
    alone = [square.alone(), square.alone()]
    assert sorted(name for each in alone for name in each.names) == ["m3", "m5"]
    lost = DatabaseError("gone", error_type="OperationalError")
    for each in alone:
        each.end(lost if each.names == ["m3"] else None)
    assert [ended(jobs[1]), ended(jobs[3])] == [lost, None]
    first.end()
    assert ended(square.jobs["m0"]) is None


@pytest.mark.parametrize("error", [DatabaseError("away", error_type="X", connection_lost=True), SystemExit(3)])
def test_what_a_batch_raises_is_the_end_of_all_in_it_and_of_nobody_else(square: Square, error: BaseException) -> None:
    square.open(width=1)
    hung = threading.Event()
    square.lane.run(lambda: hung.wait(WAIT))
    jobs = square.enter(MOST + 1)
    hung.set()
    square.together().end(error)
    assert [ended(job) for job in jobs[:MOST]] == [error] * MOST
    square.together().end()
    assert ended(jobs[MOST]) is None
    square.settled()


# Too long


def test_a_batch_that_hangs_gives_its_place_away_and_others_go_on(square: Square) -> None:
    square.open(width=2)
    jobs = square.enter(1)
    hangs = [square.together()]
    jobs += square.enter(1)
    hangs.append(square.together())
    jobs += square.enter(5)
    for job in jobs[:2]:
        job.abandon()
    assert all(each.cancelled.acquire(timeout=WAIT) for each in hangs)
    batch = square.together()
    batch.end()
    assert [ended(job) for job in jobs[2:]] == [None] * 5
    assert told_nothing(jobs[0])
    for each in hangs:
        each.end([False])  # as it does when it was cancelled
    assert [reason(job) for job in jobs[:2]] == ["phase worker was cancelled"] * 2
    square.settled()
    assert square.enter(1)
    square.together().end()


def test_one_that_leaves_its_batch_is_no_reason_for_the_others_to_fail(square: Square) -> None:
    square.open(width=1)
    hung = threading.Event()
    square.lane.run(lambda: hung.wait(WAIT))
    jobs = square.enter(3)
    hung.set()
    batch = square.together()
    jobs[1].abandon()
    jobs[1].abandon()
    assert not batch.cancelled.acquire(blocking=False)
    batch.end([True, False, False])
    assert ended(jobs[0]) is None
    assert reason(jobs[1]) == "phase worker was cancelled"
    square.alone().end()
    assert ended(jobs[2]) is None
    square.settled()


def test_however_many_are_overdue_the_batch_is_interrupted_once(square: Square) -> None:
    square.open(width=1)
    hung = threading.Event()
    square.lane.run(lambda: hung.wait(WAIT))
    jobs = square.enter(MOST)
    hung.set()
    batch = square.together()
    for job in jobs[:-1]:
        job.abandon()
    assert not batch.cancelled.acquire(blocking=False)
    for job in [jobs[-1], *jobs]:
        job.abandon()
    assert batch.cancelled.acquire(timeout=WAIT)
    # What comes late would interrupt whoever has the connection by then.
    assert not batch.cancelled.acquire(blocking=False)
    batch.end()
    assert [ended(job) for job in jobs] == [None] * MOST
    square.settled()


def test_they_are_overdue_from_when_they_began_and_no_sooner(square: Square) -> None:
    jobs = square.enter(1)
    first = square.together()
    jobs += square.enter(1)
    second = square.together()
    jobs += square.enter(1)
    square.timers.advance(PHASE_TIMEOUT)
    for job in jobs[:2]:
        assert isinstance(told(job), PhaseOverdue)
    assert told_nothing(jobs[2])
    first.end()
    third = square.together()
    square.timers.advance(PHASE_TIMEOUT - 1)
    assert told_nothing(jobs[2])
    square.timers.advance(1)
    assert isinstance(told(jobs[2]), PhaseOverdue)
    for each in (second, third):
        each.end()


def test_to_wait_in_the_lane_to_be_alone_is_not_to_be_overdue(square: Square) -> None:
    square.open(width=1)
    jobs = square.enter(1)
    square.together().end([False])
    hung = square.alone()
    jobs += square.enter(1)
    eventually(lambda: square.crowd._serving == 1)
    hung.end()
    assert ended(jobs[0]) is None
    batch = square.together()
    blocked, release = threading.Event(), threading.Event()

    def block() -> None:
        blocked.set()
        release.wait(WAIT)

    square.timers.advance(PHASE_TIMEOUT - 1)
    square.lane.run(block)
    square.lane.leave(square.crowd._batches[jobs[1]].place)  # another has the place by the time the batch ends
    assert blocked.wait(WAIT)
    batch.end([False])
    eventually(lambda: not square.crowd._batches)
    square.timers.advance(PHASE_TIMEOUT)
    assert told_nothing(jobs[1])
    release.set()
    alone = square.alone()
    square.timers.advance(PHASE_TIMEOUT)
    assert isinstance(told(jobs[1]), PhaseOverdue)
    alone.end()
    assert ended(jobs[1]) is None


# Abandoned


def test_one_that_is_abandoned_while_it_waits_is_never_begun(square: Square) -> None:
    square.open(width=1)
    square.enter(1)
    first = square.together()
    jobs = square.enter(3)
    jobs[1].abandon()
    assert reason(jobs[1]) == "phase worker was cancelled before it began"
    first.end()
    batch = square.together()
    assert batch.names == ["m1", "m3"]
    batch.end()
    assert [ended(jobs[0]), ended(jobs[2])] == [None, None]
    jobs[1].abandon()
    assert told_nothing(jobs[1])
    square.settled()


def test_all_that_wait_may_be_abandoned_before_their_batch_has_its_place(square: Square) -> None:
    square.open(width=1)
    hung = threading.Event()
    square.lane.run(lambda: hung.wait(WAIT))
    jobs = square.enter(2)
    for job in jobs:
        job.abandon()
    assert all("before it began" in reason(job) for job in jobs)
    hung.set()
    square.settled()
    assert not square.phases.all


def test_one_that_is_abandoned_alone_gives_its_place_in_the_lane_away(square: Square) -> None:
    square.open(width=1)
    (job,) = square.enter(1)
    square.together().end([False])
    alone = square.alone()
    (next_,) = square.enter(1)
    job.abandon()
    assert alone.cancelled.acquire(timeout=WAIT)
    square.together().end()
    assert ended(next_) is None
    alone.end(TimeoutError("late"))
    assert isinstance(ended(job), TimeoutError)
    square.settled()


def test_one_that_is_abandoned_before_its_turn_to_be_alone_is_not_run(square: Square) -> None:
    square.open(width=1)
    jobs = [*square.enter(1)]
    first = square.together()
    jobs += square.enter(1)
    first.end([False])
    second = square.together()  # the batch keeps the place for as long as somebody waits
    jobs[0].abandon()
    assert reason(jobs[0]) == "phase worker was cancelled before it began"
    second.end()
    assert ended(jobs[1]) is None
    square.settled()
    assert square.phases.alone.empty()


def test_one_that_is_abandoned_between_the_batch_and_the_lane_is_not_run(
    square: Square, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone, moments = PhaseJob.alone, 0

    def abandoned_first(job: PhaseJob, lane: Lane) -> None:
        nonlocal moments
        moments += 1
        job.abandon()
        alone(job, lane)

    monkeypatch.setattr(PhaseJob, "alone", abandoned_first)
    (job,) = square.enter(1)
    square.together().end([False])
    assert "was cancelled" in reason(job)
    square.settled()
    assert square.phases.alone.empty()
    assert moments == 1


def test_one_that_is_abandoned_just_as_it_enters_the_lane_gives_its_place_away(
    square: Square, monkeypatch: pytest.MonkeyPatch
) -> None:
    square.open(width=1)
    in_line = PhaseJob.in_line

    def abandoned_first(job: PhaseJob, leave: Callable[[], bool]) -> None:
        if job.cell.spec.name == "m0" and job._begun:
            job.abandon()
        in_line(job, leave)

    monkeypatch.setattr(PhaseJob, "in_line", abandoned_first)
    jobs = square.enter(1)
    square.together().end([False])
    jobs += square.enter(1)
    square.together().end()
    assert ended(jobs[1]) is None


def test_however_they_are_abandoned_each_reports_once_and_nobody_is_left(square: Square) -> None:
    chance = random.Random(7)
    square.open(width=3)

    def carry_out(specs: Sequence[ModuleSpec], scope: CancelScope) -> Sequence[bool]:
        with scope.interruptible(lambda: None):
            return [chance.random() < 0.5 for _ in specs]

    square.phases.run_together = carry_out  # type: ignore[method-assign]
    square.phases.run = lambda spec, phase, scope: None  # type: ignore[method-assign]
    jobs = [square.job(f"m{n}") for n in range(1000)]
    entered: SimpleQueue[PhaseJob | None] = SimpleQueue()

    def abandon() -> None:
        while (job := entered.get(timeout=WAIT)) is not None:
            job.abandon()

    callers = [threading.Thread(target=abandon) for _ in range(3)]
    for caller in callers:
        caller.start()
    for job in jobs:
        job.start(square.threads, square.lane, square.crowd.enter)
        if chance.random() < 0.5:
            entered.put(job)
    for _ in callers:
        entered.put(None)
    for caller in callers:
        caller.join(WAIT)
    for job in jobs:
        ended(job)
    square.settled()
    assert all(told_nothing(job) for job in jobs)
    assert square.timers.pending == 0


# No thread


def test_one_for_whom_there_is_no_thread_is_refused_and_forgotten(
    square: Square, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(square.threads, "run", no_thread)
        with pytest.raises(RuntimeError, match="can't start"):
            square.enter(1)
    (job,) = square.enter(1)
    batch = square.together()
    assert batch.names == ["m1"]
    batch.end()
    assert ended(job) is None
    square.settled()


def test_the_waiting_are_served_by_who_serves_already_where_there_is_no_thread_for_a_second(
    square: Square, monkeypatch: pytest.MonkeyPatch
) -> None:
    square.open(width=1)
    square.enter(1)
    first = square.together()
    monkeypatch.setattr(square.threads, "run", no_thread)
    jobs = square.enter(3)  # the second batch waits for its place in the lane
    first.end()
    square.together().end()
    assert [ended(job) for job in jobs] == [None] * 3


def test_one_that_cannot_be_alone_for_want_of_a_thread_has_failed(
    square: Square, monkeypatch: pytest.MonkeyPatch
) -> None:
    (job,) = square.enter(1)
    batch = square.together()
    with monkeypatch.context() as patched:
        patched.setattr(square.threads, "run", no_thread)
        batch.end([False])
        assert reason(job) == "no thread for phase worker: can't start new thread"
    square.settled()


@pytest.mark.parametrize("hung_batch_ends", ["never", "before the place is given away again"])
def test_who_waits_behind_a_hung_batch_is_served_when_there_is_a_thread_again(
    square: Square, hung_batch_ends: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = square.enter(1)
    hangs = [square.together()]
    jobs += square.enter(1)
    hangs.append(square.together())
    waiting = square.enter(2)
    with monkeypatch.context() as patched:
        patched.setattr(square.threads, "run", no_thread)
        for job in jobs:
            with pytest.raises(RuntimeError, match="can't start"):
                job.abandon()
    if hung_batch_ends != "never":
        for each in hangs:
            each.end()
        assert [ended(job) for job in jobs] == [None, None]
        eventually(lambda: not square.crowd._batches)
    for job in jobs:
        job.abandon()  # as whoever it raised for does
    batch = square.together()
    assert batch.names == ["m2", "m3"]
    batch.end()
    assert [ended(job) for job in waiting] == [None, None]


def test_without_a_thread_for_the_timers_nobody_is_begun_and_the_next_are_served(
    square: Square, monkeypatch: pytest.MonkeyPatch
) -> None:
    square.open(width=1)
    hung = threading.Event()
    square.lane.run(lambda: hung.wait(WAIT))
    jobs = square.enter(3)
    refuse = RuntimeError("can't start new thread")
    after = square.timers.after

    def refuse_once(delay: float, call: Callable[[], object]) -> Any:
        square.timers.after = after  # type: ignore[method-assign]
        raise refuse

    monkeypatch.setattr(square.timers, "after", refuse_once)
    hung.set()
    assert [ended(job) for job in jobs] == [refuse] * 3
    (next_,) = square.enter(1)
    square.together().end()
    assert ended(next_) is None
    square.settled()


# Under module actors


def test_a_module_that_cannot_be_done_together_succeeds_in_the_same_attempt() -> None:
    rig = Rig()
    try:
        rig.start("shop", "other")
        for _ in rig.board.cells:
            rig.ended()
        assert [state.attempts for state in rig.board.status().modules] == [1, 1]
        assert rig.timers.pending == 0
    finally:
        rig.stop()
