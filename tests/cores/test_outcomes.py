"""What becomes of a task is the same on every core."""

from __future__ import annotations

import threading
from typing import Any

import pytest

import pgflow_starter as pgflow
from tests.cores.stand_in import Admin, attempts
from tests.support.starters import echo_job, running
from tests.support.waiting import eventually


def _left_in(admin: Admin, queue: str) -> int:
    """The messages that are in the queue still."""
    row = admin.execute(f'select count(*) from pgmq."q_{queue}"').fetchone()
    assert row is not None
    return int(str(row[0]))


def test_a_completed_run_has_its_output_and_leaves_no_message(database: str, admin: Admin) -> None:
    job = echo_job()
    outputs: list[Any] = [{"a": [1, "ü", None]}, None, [], 1.5, "text", True]
    with running(database, jobs=[job]) as starter:
        runs = [starter.client.enqueue(job, output).wait(20) for output in outputs]
    assert [(run.status, run.result) for run in runs] == [("completed", output) for output in outputs]
    assert [attempts(admin, run.id) for run in runs] == [[1]] * len(runs)
    assert _left_in(admin, "echo") == 0


def test_a_failure_is_tried_again_and_each_attempt_is_counted(database: str, admin: Admin) -> None:
    seen: list[int] = []

    @pgflow.job("flaky", max_attempts=3, base_delay=0)
    def flaky(message: Any, ctx: pgflow.TaskContext) -> str:
        seen.append(ctx.attempt)
        if ctx.attempt < 3:
            raise RuntimeError(f"attempt {ctx.attempt}")
        return "at last"

    with running(database, jobs=[flaky]) as starter:
        run = starter.client.enqueue(flaky).wait(20)
    assert (run.result, seen, attempts(admin, run.id)) == ("at last", [1, 2, 3], [3])


def test_the_last_failure_fails_the_run_with_its_error(database: str, admin: Admin) -> None:
    @pgflow.job("doomed", max_attempts=2, base_delay=0)
    def doomed(message: Any, ctx: pgflow.TaskContext) -> None:
        raise LookupError(f"nothing there at attempt {ctx.attempt}")

    with running(database, jobs=[doomed]) as starter:
        run = starter.client.enqueue(doomed).wait(20)
    assert (run.status, attempts(admin, run.id)) == ("failed", [2])
    assert run.error is not None
    assert "nothing there at attempt 2" in run.error
    assert _left_in(admin, "doomed") == 0


def test_a_permanent_error_fails_the_run_at_its_first_attempt(database: str, admin: Admin) -> None:
    seen: list[int] = []

    @pgflow.job("hopeless", max_attempts=5, base_delay=0)
    def hopeless(message: Any, ctx: pgflow.TaskContext) -> None:
        seen.append(ctx.attempt)
        raise pgflow.PermanentError("no such customer")

    with running(database, jobs=[hopeless]) as starter:
        run = starter.client.enqueue(hopeless).wait(20)
    assert (run.status, seen) == ("failed", [1])
    assert run.error is not None
    assert "no such customer" in run.error
    assert _left_in(admin, "hopeless") == 0


def test_a_task_that_exceeds_its_steps_timeout_fails_and_its_late_result_is_ignored(
    database: str, release: threading.Event
) -> None:
    @pgflow.job("endless", max_attempts=1, timeout=1)
    def endless(message: Any, ctx: pgflow.TaskContext) -> str:
        release.wait()
        return "late"

    with running(database, jobs=[endless]) as starter:
        run = starter.client.enqueue(endless).wait(20)
        assert run.error is not None
        assert "timeout of 1 s" in run.error
        release.set()
        eventually(lambda: starter.workers()[0].abandoned == 0)
        assert run.refresh() == run


def test_failures_beside_completions_in_one_run_do_not_deadlock(database: str) -> None:
    flow = pgflow.Flow("half", max_attempts=2, base_delay=0)

    @flow.map()
    def each(n: int, ctx: pgflow.TaskContext) -> int:
        if n % 2 and ctx.attempt == 1:
            raise RuntimeError("odd")
        return n

    with running(database, flows=[flow]) as starter:
        assert starter.client.start_flow(flow, list(range(40))).wait(30).result == list(range(40))


@pytest.mark.parametrize("fails", [False, True])
def test_a_message_stays_invisible_for_as_long_as_its_step_may_take(
    database: str, admin: Admin, fails: bool, release: threading.Event
) -> None:
    entered = threading.Event()
    flow = pgflow.Flow("steps", max_attempts=1, timeout=5)

    @flow.step(timeout=600)
    def long(given: Any, ctx: pgflow.TaskContext) -> None:
        entered.set()
        release.wait()
        if fails:
            raise RuntimeError

    with running(database, flows=[flow]) as starter:
        run = starter.client.start_flow(flow)
        assert entered.wait(20)
        row = admin.execute("select vt > now() + interval '590 s' from pgmq.q_steps").fetchone()
        release.set()
        assert run.wait(20).status == ("failed" if fails else "completed")
    assert row == (True,)
