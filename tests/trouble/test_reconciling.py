"""What the database holds as started by a worker of ours which knows nothing of it is given back."""

from __future__ import annotations

import logging
import threading
from typing import Any
from uuid import UUID

import pytest

import pgflow_starter as pgflow
from tests.support.starters import echo_job, running
from tests.support.waiting import eventually
from tests.trouble.conftest import Admin

WAIT = 30.0
OFTEN = {"recovery_interval": 0.1}
NEVER = {"min_poll_interval": 60.0, "max_poll_interval": 60.0}


def _strand(admin: Admin, slug: str, worker: UUID) -> int:
    """Claim in a worker's name all there is, as a claim whose answer nobody heard."""
    row = admin.execute(
        "select count(*) from pgflow.start_tasks(%s, array(select msg_id from pgmq.read(%s, 60, 100)), %s)",
        (slug, slug, worker),
    ).fetchone()
    assert row is not None
    return int(row[0])


def test_a_claim_whose_answer_got_lost_is_given_back_its_attempt_not_burnt_and_said_in_one_line(
    database: str, admin: Admin, caplog: pytest.LogCaptureFixture
) -> None:
    @pgflow.job("stranded", max_attempts=1)
    def stranded(message: Any, ctx: pgflow.TaskContext) -> int:
        return ctx.attempt

    with running(database, jobs=[stranded], **OFTEN, **NEVER) as starter, pgflow.PgflowClient(database) as other:
        starter.await_ready(WAIT)
        (worker,) = starter.workers()
        runs = [other.enqueue(stranded, n) for n in range(3)]
        assert _strand(admin, "stranded", worker.worker_id) == 3
        assert [run.wait(WAIT).result for run in runs] == [1, 1, 1]
    lines = [r for r in caplog.records if "given back" in r.getMessage()]
    assert [r.levelno for r in lines] == [logging.WARNING]


def test_it_is_given_back_while_every_slot_is_taken_and_what_runs_is_left_alone(database: str, admin: Admin) -> None:
    entered, release = threading.Event(), threading.Event()
    attempts: list[int] = []

    @pgflow.job("busy", max_concurrency=1)
    def busy(message: Any, ctx: pgflow.TaskContext) -> None:
        attempts.append(ctx.attempt)
        if message == "long":
            entered.set()
            release.wait(WAIT)

    with running(database, jobs=[busy], **OFTEN) as starter:
        starter.await_ready(WAIT)
        long = starter.client.enqueue(busy, "long")
        assert entered.wait(WAIT)
        (worker,) = starter.workers()
        run = starter.client.enqueue(busy, "short")
        assert _strand(admin, "busy", worker.worker_id) == 1
        status = "select status from pgflow.step_tasks where run_id = %s"
        eventually(lambda: admin.execute(status, (run.id,)).fetchone() == ("queued",), WAIT, "the giving back")
        assert admin.execute(status, (long.id,)).fetchone() == ("started",)
        release.set()
        assert long.wait(WAIT).status == run.wait(WAIT).status == "completed"
    assert attempts == [1, 1]


def test_what_runs_and_what_waits_to_be_written_is_given_back_by_nobody(database: str, admin: Admin) -> None:
    seen: list[UUID] = []

    @pgflow.job("seen")
    def handler(message: Any, ctx: pgflow.TaskContext) -> None:
        seen.append(ctx.run_id)

    with running(database, jobs=[handler], recovery_interval=0.02) as starter:
        starter.await_ready(WAIT)
        runs = starter.client.enqueue_many(handler, range(400))
        for run in runs:
            assert run.wait(WAIT).status == "completed"
    assert len(seen) == len(set(seen)) == 400


def test_a_tasks_end_at_the_very_deadline_of_a_stop_is_written_or_given_back(database: str, admin: Admin) -> None:
    job = echo_job("quick")
    for round_ in range(15):
        with running(database, jobs=[job], shutdown_timeout=0.0) as starter:
            starter.await_ready(WAIT)
            starter.client.enqueue_many(job, range(20))
            eventually(lambda least=round_ % 5: starter.workers()[0].completed > least)  # type: ignore[misc]
        assert admin.execute("select count(*) from pgflow.step_tasks where status = 'started'").fetchone() == (0,)
