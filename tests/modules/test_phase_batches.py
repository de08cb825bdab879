"""PhaseBatches: the worker phases of many modules in one go, and what becomes of those that cannot be done so."""

from __future__ import annotations

import threading

import pytest

from pgflow_starter import DatabaseError
from pgflow_starter.modules.messages import PhaseOverdue
from pgflow_starter.threads.gatherer import MOST, WIDTH
from tests.modules.batch_rig import Square, a_square, ended, reason, told, told_nothing
from tests.modules.rig import PHASE_TIMEOUT, WAIT, Rig
from tests.support.waiting import eventually

__all__ = ["a_square"]


# Who is served with whom


def test_the_first_is_served_at_once_and_who_comes_meanwhile_in_batches(square: Square) -> None:
    square.enter(1)
    first = square.together()
    assert first.names == ["m0"]
    square.enter(1)
    second = square.together()
    rest = square.enter(MOST + 10)
    assert square.batches.gatherer.counts().places == WIDTH
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
        job.cancel()
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
    jobs[1].cancel()
    jobs[1].cancel()
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
        job.cancel()
    assert not batch.cancelled.acquire(blocking=False)
    for job in [jobs[-1], *jobs]:
        job.cancel()
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


def test_to_wait_in_the_lane_to_be_alone_is_not_to_be_overdue(square: Square, release: threading.Event) -> None:
    square.open(width=1)
    jobs = square.enter(1)
    square.together().end([False])
    hung = square.alone()
    jobs += square.enter(2)
    assert square.batches.gatherer.counts().places == WIDTH
    hung.end()
    assert ended(jobs[0]) is None
    batch = square.together()
    blocked = threading.Event()

    def block() -> None:
        blocked.set()
        release.wait()

    square.timers.advance(PHASE_TIMEOUT - 1)
    square.lane.run(block)
    jobs[2].cancel()  # the place goes to another before the batch ends
    assert blocked.wait(WAIT)
    batch.end([False, False])
    eventually(lambda: not square.batches.gatherer.counts().served)
    square.timers.advance(PHASE_TIMEOUT)
    assert told_nothing(jobs[1])
    release.set()
    alone = square.alone()
    square.timers.advance(PHASE_TIMEOUT)
    assert isinstance(told(jobs[1]), PhaseOverdue)
    alone.end()
    assert ended(jobs[1]) is None


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
