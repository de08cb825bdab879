"""Batches whose jobs are cancelled, or for which there is no thread: nobody is left waiting."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Any

import pytest

from pgflow_starter.core.modules import ModuleSpec
from pgflow_starter.modules.phase_job import PhaseJob
from pgflow_starter.ports import CancelScope
from pgflow_starter.threads.lane import Lane
from tests.modules.batch_rig import Square, a_square, ended, no_thread, reason, told_nothing
from tests.modules.rig import WAIT
from tests.support.waiting import eventually

__all__ = ["a_square"]


# Abandoned


def test_one_that_is_cancelled_while_it_waits_is_never_begun(square: Square) -> None:
    square.open(width=1)
    square.enter(1)
    first = square.together()
    jobs = square.enter(3)
    jobs[1].cancel()
    assert reason(jobs[1]) == "phase worker was cancelled before it began"
    first.end()
    batch = square.together()
    assert batch.names == ["m1", "m3"]
    batch.end()
    assert [ended(jobs[0]), ended(jobs[2])] == [None, None]
    jobs[1].cancel()
    assert told_nothing(jobs[1])
    square.settled()


def test_all_that_wait_may_be_cancelled_before_their_batch_has_its_place(square: Square) -> None:
    square.open(width=1)
    hung = threading.Event()
    square.lane.run(lambda: hung.wait(WAIT))
    jobs = square.enter(2)
    for job in jobs:
        job.cancel()
    assert all("before it began" in reason(job) for job in jobs)
    hung.set()
    square.settled()
    assert not square.phases.all


def test_one_that_is_cancelled_alone_gives_its_place_in_the_lane_away(square: Square) -> None:
    square.open(width=1)
    (job,) = square.enter(1)
    square.together().end([False])
    alone = square.alone()
    (next_,) = square.enter(1)
    job.cancel()
    assert alone.cancelled.acquire(timeout=WAIT)
    square.together().end()
    assert ended(next_) is None
    alone.end(TimeoutError("late"))
    assert isinstance(ended(job), TimeoutError)
    square.settled()


def test_one_that_is_cancelled_before_its_turn_to_be_alone_is_not_run(square: Square) -> None:
    square.open(width=1)
    jobs = [*square.enter(1)]
    first = square.together()
    jobs += square.enter(1)
    first.end([False])
    second = square.together()  # the batch keeps the place for as long as somebody waits
    jobs[0].cancel()
    assert reason(jobs[0]) == "phase worker was cancelled before it began"
    second.end()
    assert ended(jobs[1]) is None
    square.settled()
    assert square.phases.alone.empty()


def test_one_that_is_cancelled_between_the_batch_and_the_lane_is_not_run(
    square: Square, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone, moments = PhaseJob.alone, 0

    def cancelled_first(job: PhaseJob, lane: Lane) -> None:
        nonlocal moments
        moments += 1
        job.cancel()
        alone(job, lane)

    monkeypatch.setattr(PhaseJob, "alone", cancelled_first)
    (job,) = square.enter(1)
    square.together().end([False])
    assert "was cancelled" in reason(job)
    square.settled()
    assert square.phases.alone.empty()
    assert moments == 1


def test_one_that_is_cancelled_just_as_it_enters_the_lane_gives_its_place_away(
    square: Square, monkeypatch: pytest.MonkeyPatch
) -> None:
    square.open(width=1)
    set_leave = PhaseJob.set_leave

    entered: list[str] = []

    def cancelled_first(job: PhaseJob, leave: Callable[[], bool]) -> None:
        entered.append(job.cell.spec.name)
        if entered == ["m0", "m0"]:  # after the batch, the lane
            job.cancel()
        set_leave(job, leave)

    monkeypatch.setattr(PhaseJob, "set_leave", cancelled_first)
    jobs = square.enter(1)
    square.together().end([False])
    jobs += square.enter(1)
    square.together().end()
    assert ended(jobs[1]) is None


def test_however_they_are_cancelled_each_reports_once_and_nobody_is_left(square: Square) -> None:
    chance = random.Random(7)
    square.open(width=3)

    def carry_out(specs: Sequence[ModuleSpec], scope: CancelScope) -> Sequence[bool]:
        with scope.interruptible(lambda: None):
            return [chance.random() < 0.5 for _ in specs]

    square.phases.run_together = carry_out  # type: ignore[method-assign] # the double is told what to do
    square.phases.run = lambda spec, scope: None  # type: ignore[method-assign] # the double is told what to do
    jobs = [square.job(f"m{n}") for n in range(1000)]
    entered: SimpleQueue[PhaseJob | None] = SimpleQueue()

    def cancel() -> None:
        while (job := entered.get(timeout=WAIT)) is not None:
            job.cancel()

    callers = [threading.Thread(target=cancel) for _ in range(3)]
    for caller in callers:
        caller.start()
    for job in jobs:
        job.start(square.threads, square.lane, square.batches.enter)
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
                job.cancel()
    if hung_batch_ends != "never":
        for each in hangs:
            each.end()
        assert [ended(job) for job in jobs] == [None, None]
        eventually(lambda: not square.batches.gatherer.counts().served)
    for job in jobs:
        job.cancel()  # as whoever it raised for does
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
        square.timers.after = after  # type: ignore[method-assign] # the double is told what to do
        raise refuse

    monkeypatch.setattr(square.timers, "after", refuse_once)
    hung.set()
    assert [ended(job) for job in jobs] == [refuse] * 3
    (next_,) = square.enter(1)
    square.together().end()
    assert ended(next_) is None
    square.settled()
