"""A run with its steps, and what each of their tasks has come to."""

from __future__ import annotations

import threading
from typing import Any
from uuid import uuid4

import pytest

import pgflow_starter as pgflow
from tests.postgres.rights_rig import flow_of
from tests.support.starters import running
from tests.support.waiting import eventually

WAIT = 30.0


def test_each_task_tells_its_attempts_its_times_and_the_last_error(database: str) -> None:
    flow = flow_of()
    with running(database, flows=[flow]) as starter:
        starter.await_ready(WAIT)
        run = starter.client.start_flow(flow, {"s3cr3t": 1}).wait(WAIT)
        details = starter.client.details(str(run.id), payloads=True)
        (worker,) = starter.workers()
        bare = starter.client.details(run.id)
        assert (details.run, details.steps) == (run, run.steps())
    assert [(t.step_slug, t.index, t.status, t.attempts) for t in details.tasks] == [
        ("items", 0, "completed", 1),
        *(("doubled", n, "completed", 2) for n in range(3)),
        ("total", 0, "completed", 1),
    ]
    for task in details.tasks:
        assert task.worker_id == worker.worker_id
        assert task.queued_at is not None
        assert task.started_at is not None
        assert task.ended_at is not None
        assert task.queued_at <= task.started_at <= task.ended_at
        if task.step_slug == "doubled":
            assert task.error is not None
            assert task.error.startswith("RuntimeError: once more\n  File ")
            assert "in doubled" in task.error
        else:
            assert task.error is None
    assert (bare.run.input, bare.run.output, [step.output for step in bare.steps]) == (None, None, [None] * 3)
    assert (bare.run.status, bare.run.ended_at, bare.tasks) == (run.status, run.ended_at, details.tasks)


def test_a_task_that_runs_has_begun_and_not_ended(database: str, release: threading.Event) -> None:
    @pgflow.job("slow")
    def slow(message: Any, ctx: pgflow.TaskContext) -> None:
        release.wait()

    with running(database, jobs=[slow]) as starter:
        client, run = starter.client, starter.client.enqueue(slow)
        eventually(lambda: client.details(run.id).tasks[0].status == "started")
        (task,) = client.details(run.id).tasks
        assert (task.attempts, task.error, task.ended_at) == (1, None, None)
        assert task.started_at is not None
        release.set()
        run.wait(WAIT)


def test_a_run_of_nobody_has_none(database: str) -> None:
    with pgflow.PgflowClient(database) as client:
        with pytest.raises(pgflow.RunNotFoundError):
            client.details(uuid4())
        with pytest.raises(ValueError, match="must be a UUID"):
            client.details("seven")
