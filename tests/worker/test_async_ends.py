"""How coroutines end: cancelled in time, by a stop, by a loop that dies, by each other; and in nobody's way."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

import pgflow_starter as pgflow
from pgflow_starter.threads.loop_watch import LoopWatch
from tests.support.starters import running
from tests.support.waiting import eventually
from tests.worker.async_rig import WAIT, Waits, told


def test_a_coroutine_is_cancelled_at_its_timeout_and_does_not_count_as_one_that_hangs(
    database: str, caplog: pytest.LogCaptureFixture
) -> None:
    waits = Waits()
    job = pgflow.job("late", timeout=1, max_attempts=2, base_delay=0)(waits.wait)
    with running(database, jobs=[job]) as starter:
        run = starter.client.enqueue(job, "x")
        eventually(lambda: waits.cancelled, WAIT)
        waits.go.set()
        assert run.wait(WAIT).result == "x"
        assert (waits.begun, waits.cancelled) == (["x", "x"], [("x", True)])
        eventually(lambda: starter.workers()[0].abandoned == 0, WAIT)
    (line,) = told(caplog, "failed in attempt")
    assert line.endswith("TimeoutError: the task has not ended within its timeout of 1 s")


def test_a_coroutine_whose_run_is_cancelled_is_so_too_and_nobody_warns(
    database: str, caplog: pytest.LogCaptureFixture
) -> None:
    waits = Waits()
    job = pgflow.job("unwanted", max_concurrency=1)(waits.wait)
    with running(database, jobs=[job]) as starter:
        one = starter.client.enqueue(job, "one")
        eventually(lambda: waits.begun, WAIT)
        two = starter.client.enqueue(job, "two")
        starter.client.cancel(two.id)
        starter.client.cancel(one.id)
        eventually(lambda: waits.cancelled == [("one", True)], WAIT)
        waits.go.set()
        assert starter.client.enqueue(job, "three").wait(WAIT).result == "three"
    assert waits.begun == ["one", "three"]
    assert [r for r in caplog.records if r.levelname in ("WARNING", "ERROR")] == []


def test_a_coroutine_that_goes_on_when_it_is_cancelled_is_given_up_and_counts_until_it_ends(database: str) -> None:
    ended, caught = threading.Event(), []

    @pgflow.job("stubborn", timeout=1, max_attempts=1)
    async def stubborn(message: Any, ctx: pgflow.TaskContext) -> str:
        while not ended.is_set():
            try:
                await asyncio.sleep(0.05)
            except asyncio.CancelledError as error:
                caught.append(error)
        return "too late"

    try:
        with running(database, jobs=[stubborn]) as starter:
            run = starter.client.enqueue(stubborn).wait(WAIT)
            assert (run.status, run.error) == (
                "failed",
                "TimeoutError: the task has not ended within its timeout of 1 s",
            )
            eventually(lambda: caught, WAIT)
            assert starter.workers()[0].abandoned == 1
            ended.set()
            eventually(lambda: starter.workers()[0].abandoned == 0, WAIT)
            assert run.refresh().status == "failed"
    finally:
        ended.set()


def test_a_stop_lets_coroutines_end_then_cancels_them_and_gives_back_what_they_did(
    database: str, caplog: pytest.LogCaptureFixture
) -> None:
    waits = Waits()
    job = pgflow.job("stopped", max_attempts=1)(waits.wait)
    with running(database, jobs=[job]) as starter:
        run = starter.client.enqueue(job, "ends")
        eventually(lambda: waits.begun, WAIT)
        stopping = threading.Thread(target=starter.stop, args=(WAIT,))
        stopping.start()
        eventually(lambda: not starter_is_up(starter), WAIT)
        waits.go.set()
        stopping.join(WAIT)
        waits.go.clear()
    with running(database, jobs=[job]) as starter:
        assert run_of(starter, run).status == "completed"
        other = starter.client.enqueue(job, "cut short")
        eventually(lambda: len(waits.begun) == 2, WAIT)
        starter.stop(0)
        assert waits.cancelled == [("cut short", True)]
    assert len(told(caplog, "1 tasks did not end in time and are given back: step stopped of run")) == 1
    waits.go.set()
    with running(database, jobs=[job]) as starter:  # no attempt was burnt
        assert starter.client.run(other.id).wait(WAIT).result == "cut short"


def starter_is_up(starter: pgflow.Starter) -> bool:
    try:
        starter.status()
    except pgflow.StarterStopped:
        return False
    return True


def run_of(starter: pgflow.Starter, run: pgflow.Run) -> pgflow.Run:
    return starter.client.run(run.id)


def test_a_loop_that_dies_is_started_again_and_its_tasks_come_back_with_no_attempt_burnt(
    database: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    waits = Waits()
    attempts: list[int] = []

    @pgflow.job("revived", max_attempts=1)
    async def revived(message: Any, ctx: pgflow.TaskContext) -> Any:
        attempts.append(ctx.attempt)
        return await waits.wait(message, ctx)

    died = threading.Event()
    select = LoopWatch.select

    def dies(self: LoopWatch, timeout: float | None = None) -> Any:
        if not died.is_set():
            died.set()
            raise OSError("the selector is broken")
        return select(self, timeout)

    with running(database, jobs=[revived]) as starter:
        runs = starter.client.enqueue_many(revived, [1, 2, 3])
        eventually(lambda: len(waits.begun) == 3, WAIT)
        monkeypatch.setattr(LoopWatch, "select", dies)
        assert died.wait(WAIT)
        eventually(lambda: len(waits.begun) == 6, WAIT)
        waits.go.set()
        assert [run.wait(WAIT).result for run in runs] == [1, 2, 3]
        (child,) = [child for child in starter.which_children() if child.id == "event-loop"]
        state = starter.workers()[0]
    assert (child.restarts, state.abandoned, state.completed) == (1, 0, 3)
    assert (attempts, len(waits.cancelled)) == ([1] * 6, 3)
    assert told(caplog, "failed in attempt") == []


def test_tasks_that_another_handler_cancels_before_their_first_step_are_tried_again_and_hang_for_nobody(
    database: str,
) -> None:
    begun: list[tuple[int, int]] = []

    @pgflow.job("bully", timeout=1, max_attempts=2, base_delay=0)
    async def bully(number: int, ctx: pgflow.TaskContext) -> int:
        begun.append((number, ctx.attempt))
        if len(begun) == 1:
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()
        return number

    with pgflow.PgflowClient(database) as client:  # so that all three are claimed at once
        runs = client.enqueue_many(bully, [1, 2, 3])
    with running(database, jobs=[bully]) as starter:
        assert [starter.client.run(run.id).wait(WAIT).result for run in runs] == [1, 2, 3]
        eventually(lambda: starter.workers()[0].abandoned == 0, WAIT)
    assert min(begun) == (1, 1)
    assert len(begun) == 3
