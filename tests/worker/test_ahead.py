"""Quick tasks are claimed ahead of the slots, by the batch; slow ones are left to whom can begin them."""

from __future__ import annotations

import threading
from queue import SimpleQueue
from typing import Any

import pytest

import pgflow_starter as pgflow
from pgflow_starter.testing import ManualTimers
from pgflow_starter.worker.ahead import MOMENT, Ahead
from pgflow_starter.worker.alarm import Alarm
from tests.support.starters import STRATEGIES, running
from tests.support.waiting import eventually

WAIT = 30.0


def after(ahead: Ahead, *took: float) -> int:
    for seconds in took:
        ahead.ended(seconds)
    return ahead.tasks


def test_nothing_is_claimed_ahead_until_many_tasks_have_taken_no_time() -> None:
    ahead = Ahead(10, 5)
    assert (ahead.tasks, after(ahead, *[0.0001] * 20)) == (0, 0)
    assert after(ahead, *[0.0001] * 100) == ahead.most == 90


def test_one_task_that_takes_its_time_ends_it_and_so_do_some_that_did_not_begin() -> None:
    ahead = Ahead(10, 5)
    assert after(ahead, *[0.001] * 200) == 90
    assert after(ahead, 1.0) == 0
    assert after(ahead, *[0.001] * 200) == 90
    ahead.unproven()
    assert ahead.tasks == 0


@pytest.mark.parametrize(("took", "tasks"), [(MOMENT, 0), (MOMENT / 2, 20), (MOMENT / 5, 50), (MOMENT / 100, 90)])
def test_as_many_are_claimed_ahead_as_begin_in_a_moment(took: float, tasks: int) -> None:
    assert after(Ahead(10, 5), *[took] * 500) == pytest.approx(tasks, abs=1)


@pytest.mark.parametrize(("slots", "poll", "most"), [(1, 5, 0), (2, 5, 10), (10, 5, 90), (10, 1, 20), (50, 5, 100)])
def test_the_fewer_slots_or_the_smaller_a_poll_the_fewer_are_claimed_ahead(slots: int, poll: int, most: int) -> None:
    assert after(Ahead(slots, poll), *[0.0001] * 500) == most


def test_an_alarm_rings_once_for_the_earliest_time_and_then_when_it_is_set_anew() -> None:
    timers, rung = ManualTimers(), SimpleQueue[float]()
    alarm = Alarm(timers.clock, timers, lambda: rung.put(timers.clock.monotonic()))
    began = timers.clock.monotonic()
    for seconds in (5.0, 3.0, 4.0):
        alarm.set(began + seconds)
    assert timers.pending == 1
    timers.advance(10.0)
    assert (rung.get(), rung.qsize(), timers.pending) == (began + 3.0, 0, 0)
    alarm.set(began + 11.0)
    timers.advance(1.0)
    assert rung.get() == began + 11.0


@pytest.fixture
def begun() -> SimpleQueue[int]:
    """The attempts of the slow tasks that have begun."""
    return SimpleQueue()


@pytest.fixture
def mixed(begun: SimpleQueue[int], release: threading.Event) -> pgflow.Job:
    """A job whose tasks take no time, or until they are released."""

    @pgflow.job("mixed")
    def mixed(slow: bool, ctx: pgflow.TaskContext) -> Any:
        if slow:
            begun.put(ctx.attempt)
            release.wait()
        return slow

    return mixed


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_what_was_claimed_ahead_of_tasks_that_turn_out_slow_begins_elsewhere(
    database: str, strategy: str, mixed: pgflow.Job, begun: SimpleQueue[int], release: threading.Event
) -> None:
    with running(database, jobs=[mixed], signal_strategy=strategy, max_concurrency=3) as first:
        first.await_ready(WAIT)
        quick = first.client.enqueue_many(mixed, [False] * 200)
        eventually(lambda: first.workers()[0].completed == len(quick), WAIT)
        runs = first.client.enqueue_many(mixed, [True] * 20)
        eventually(lambda: begun.qsize() == 3, WAIT)
        with running(database, jobs=[mixed], signal_strategy=strategy, max_concurrency=20) as second:
            eventually(lambda: begun.qsize() == 20, WAIT)
            assert [starter.workers()[0].running for starter in (first, second)] == [3, 17]
            release.set()
            assert {first.client.run(run.id).wait(WAIT).status for run in runs} == {"completed"}
    assert {begun.get() for _ in range(20)} == {1}


def test_what_is_given_back_is_announced_to_workers_that_have_seen_nothing(
    database: str, mixed: pgflow.Job, begun: SimpleQueue[int], release: threading.Event
) -> None:
    settings: dict[str, Any] = {"jobs": [mixed], "signal_strategy": "notify", "max_concurrency": 5}
    with running(database, **settings) as first, running(database, **settings) as second:
        for starter in (first, second):
            starter.await_ready(WAIT)
        quick = first.client.enqueue_many(mixed, [False] * 800)
        eventually(lambda: sum(s.workers()[0].completed for s in (first, second)) == len(quick), WAIT)
        runs = first.client.enqueue_many(mixed, [True] * 20)
        eventually(lambda: begun.qsize() == 10, WAIT / 3)
        release.set()
        assert {first.client.run(run.id).wait(WAIT).status for run in runs} == {"completed"}
    assert {begun.get() for _ in range(20)} == {1}
