"""A run in lines: its steps, the attempts that failed, and whether anybody works on it."""

from __future__ import annotations

from typing import Any, cast
from uuid import UUID

import pytest

from pgflow_starter.cli.changes import Changes
from pgflow_starter.cli.run_lines import MOST_FAILURES, run_lines
from pgflow_starter.cli.run_looks import RunSeen
from pgflow_starter.postgres.client.details import RunDetails, TaskRun
from pgflow_starter.postgres.client.run import Run
from pgflow_starter.postgres.client.steps import StepRun

ID = UUID(int=7)
CLOSED = 'OSError: the [bank] is\x1b closed\n  File "flows.py", line 3'
ONE: dict[str, Any] = {"tasks": 1, "remaining": 1}


def step(status: str = "started", **more: Any) -> StepRun:
    fields = {"output": None, "error": None, "tasks": 2, "remaining": 1, "started_at": None, "ended_at": None, **more}
    return StepRun("pay", cast("Any", status), **fields)


def task(status: str, attempts: int, error: str | None = CLOSED, index: int = 1) -> TaskRun:
    return TaskRun("pay", index, cast("Any", status), attempts, error, None, None, None, None)


def seen(a_step: StepRun, *tasks: TaskRun, workers: int | None = 1, status: Any = "started") -> RunSeen:
    run: Run[Any] = Run(ID, "shop", status, None, None, None, None, None, cast("Any", None))
    return RunSeen(RunDetails(run, (a_step,), tasks), workers)


def told(what: RunSeen) -> list[str]:
    """At first sight, but for the run's own line."""
    *lines, last = Changes().of(run_lines(what))
    assert last.startswith(f"run {ID} of shop: ")
    return lines


@pytest.mark.parametrize(
    ("a_task", "line"),
    [
        (task("queued", 1), "pay[1]: attempt 1 failed: OSError: the [bank] is closed"),
        (task("started", 2), "pay[1]: attempt 1 failed: OSError: the [bank] is closed"),
        (task("completed", 3, "E: x"), "pay[1]: attempt 2 failed: E: x"),
        (task("failed", 3, "E: x"), "pay[1]: failed for good in attempt 3: E: x"),
        (task("failed", 0, "ordered twice"), "pay[1]: failed: ordered twice"),
        (task("cancelled", 2, "E: x"), None),
        (task("started", 1, None), None),
        (task("completed", 1, None), None),
    ],
    ids=lambda value: f"{value.status} {value.attempts}" if isinstance(value, TaskRun) else "",
)
def test_a_task_of_which_an_attempt_failed_is_a_line(a_task: TaskRun, line: str | None) -> None:
    lines = told(seen(step(), a_task))
    assert lines == ["pay: started, 1 of 2 tasks done", *([line] if line else [])]


def test_an_attempt_that_failed_is_news_once_whatever_becomes_of_the_next() -> None:
    changes = Changes()
    looks = [task("queued", 1), task("started", 2), task("queued", 2), task("completed", 3)]
    news = [changes.of(run_lines(seen(step(**ONE), a_task))) for a_task in looks]
    assert news[0][1] == "pay: attempt 1 failed: OSError: the [bank] is closed"
    assert news[1:] == [[], ["pay: attempt 2 failed: OSError: the [bank] is closed"], []]


def test_of_a_map_of_thousands_some_are_told_and_how_many_more_there_are() -> None:
    many = [task("queued", 1, "E: x", index) for index in range(1200)]
    _, *lines = told(seen(step(tasks=1200, remaining=1200), *many))
    assert len(lines) == MOST_FAILURES + 1
    assert lines[-1] == "pay: 1,180 more tasks of which attempts failed"


def test_a_task_is_told_once_also_where_it_is_not_always_among_the_first() -> None:
    changes, of = Changes(), step(tasks=99, remaining=99)
    later = [task("queued", 1, "E: x", index) for index in range(5, 5 + MOST_FAILURES)]
    sooner = [task("queued", 1, "E: x", index) for index in range(5)]
    news = [changes.of(run_lines(seen(of, *tasks))) for tasks in (later, [*sooner, *later], later)]
    assert [line.partition(":")[0] for line in news[1]] == [*(f"pay[{index}]" for index in range(5)), "pay"]
    assert news[2] == []


@pytest.mark.parametrize(
    ("a_step", "tasks", "line"),
    [
        (step("created", tasks=None, remaining=None), [], "pay: created"),
        (step("skipped", reason="condition_unmet", **ONE), [], "pay: skipped, 0 of 1 tasks done, condition unmet"),
        (step("failed", error="unmet\nbelow", **ONE), [], "pay: failed, 0 of 1 tasks done, unmet"),
        (step("failed", error="E: x", **ONE), [task("failed", 1, "E: x")], "pay: failed, 0 of 1 tasks done"),
    ],
    ids=["created", "skipped", "failed without a task", "failed by a task"],
)
def test_a_step_tells_why_where_no_task_does(a_step: StepRun, tasks: list[TaskRun], line: str) -> None:
    assert told(seen(a_step, *tasks))[0] == line


def test_that_nobody_runs_it_is_told_and_that_somebody_does_again() -> None:
    changes = Changes()
    news = [
        changes.of(run_lines(seen(step(), workers=workers, status=status)))[-2:]
        for workers, status in ((1, "started"), (0, "started"), (2, "started"), (0, "started"), (None, "failed"))
    ]
    nobody = ["nobody runs it: no worker of shop is alive; start a starter that has it"]
    assert news[1:] == [nobody, ["a worker of shop is alive"], nobody, [f"run {ID} of shop: failed"]]
