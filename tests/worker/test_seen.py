"""What a starter tells of its workers, its flows and the runs in its database."""

from __future__ import annotations

import json
import threading
from dataclasses import asdict
from typing import Any

import pytest

import pgflow_starter as pgflow
from tests.support.starters import echo_job, running
from tests.support.waiting import eventually

WAIT = 20.0


def test_a_worker_says_what_it_runs_and_what_it_has_done(database: str) -> None:
    begun, go = threading.Semaphore(0), threading.Event()

    @pgflow.job("slow", max_attempts=1, max_concurrency=3)
    def slow(message: Any, ctx: pgflow.TaskContext) -> Any:
        begun.release()
        go.wait(WAIT)
        return 1 / message

    with running(database, jobs=[slow]) as starter:
        runs = starter.client.enqueue_many(slow, [1, 0])
        for _ in runs:
            assert begun.acquire(timeout=WAIT)
        (worker,) = starter.workers()
        assert (worker.slug, worker.alive, worker.slots, worker.running) == ("slow", True, 3, 2)
        assert (worker.completed, worker.failed, worker.draining) == (0, 0, False)
        go.set()
        for run in runs:
            run.wait(WAIT)
        (worker,) = eventually(
            lambda: [w for w in starter.workers() if (w.completed, w.failed, w.running) == (1, 1, 0)]
        )
        assert json.loads(json.dumps(asdict(worker), default=str))["failed_by_step"] == {"slow": 1}
        assert [d.slug for d in starter.definitions()] == ["slow"]
    with pytest.raises(pgflow.StarterStopped):
        starter.workers()


def test_runs_are_listed_from_the_newest_on_without_what_they_carry(database: str) -> None:
    flow = pgflow.Flow("pair")
    flow.step(slug="one")(lambda given, ctx: "s3cr3t")
    flow.step(slug="two", depends_on=["one"])(lambda deps, ctx: "s3cr3t")
    job = echo_job()
    with running(database, flows=[flow], jobs=[job]) as starter:
        starter.client.start_flow(flow, "s3cr3t").wait(WAIT)
        last = starter.client.enqueue(job, "s3cr3t").wait(WAIT)
        newest, oldest = starter.client.recent_runs()
        assert starter.client.recent_runs(limit=1) == (newest,)
    assert (newest.id, newest.status, newest.started_at, newest.ended_at) == (
        last.id,
        "completed",
        last.started_at,
        last.ended_at,
    )
    assert [(s.slug, s.status, s.tasks, s.remaining) for s in oldest.steps] == [
        ("one", "completed", 1, 0),
        ("two", "completed", 1, 0),
    ]
    assert "s3cr3t" not in repr((newest, oldest))


def test_a_database_that_is_away_is_said_soon() -> None:
    with (
        pgflow.PgflowClient("host=127.0.0.1 port=1") as client,
        pytest.raises(pgflow.PgflowError, match="cannot be reached"),
    ):
        client.recent_runs(patience=0.2)
