"""What the database holds as started by a worker of ours which knows nothing of it is given back."""

from __future__ import annotations

import logging
import threading
from typing import Any
from uuid import UUID

import psycopg
import pytest

import pgflow_starter as pgflow
from tests.support.starters import echo_job, running
from tests.support.waiting import eventually
from tests.trouble.conftest import Admin

WAIT = 30.0
OFTEN = {"recovery_interval": 0.1}
NEVER = {"min_poll_interval": 60.0, "max_poll_interval": 60.0}


def _strand(admin: Admin, client: pgflow.PgflowClient, job: pgflow.Job, worker: UUID, messages: list[Any]) -> list[Any]:
    """Runs that were claimed in a worker's name by a claim whose answer nobody heard."""
    slug = job.__pgflow_definition__().slug
    with admin.transaction():
        runs = [client.enqueue(job, message, connection=admin) for message in messages]
        row = admin.execute(
            "select count(*) from pgflow.start_tasks(%s, array(select msg_id from pgmq.read(%s, 60, 100)), %s)",
            (slug, slug, worker),
        ).fetchone()
        assert row == (len(messages),)
    return runs


def test_a_claim_whose_answer_got_lost_is_given_back_its_attempt_not_burnt_and_said_in_one_line(
    database: str, admin: Admin, caplog: pytest.LogCaptureFixture
) -> None:
    @pgflow.job("stranded", max_attempts=1)
    def stranded(message: Any, ctx: pgflow.TaskContext) -> int:
        return ctx.attempt

    with running(database, jobs=[stranded], **OFTEN, **NEVER) as starter, pgflow.PgflowClient(database) as other:
        starter.await_ready(WAIT)
        (worker,) = starter.workers()
        runs = _strand(admin, other, stranded, worker.worker_id, [0, 1, 2])
        assert [run.wait(WAIT).result for run in runs] == [1, 1, 1]
    lines = [r for r in caplog.records if "given back" in r.getMessage()]
    assert [r.levelno for r in lines] == [logging.WARNING]


def test_it_is_given_back_while_every_slot_is_taken_and_what_runs_is_left_alone(
    database: str, admin: Admin, release: threading.Event
) -> None:
    entered = threading.Event()
    attempts: list[int] = []

    @pgflow.job("busy", max_concurrency=1)
    def busy(message: Any, ctx: pgflow.TaskContext) -> None:
        attempts.append(ctx.attempt)
        if message == "long":
            entered.set()
            release.wait()

    with running(database, jobs=[busy], **OFTEN) as starter, pgflow.PgflowClient(database) as other:
        starter.await_ready(WAIT)
        long = starter.client.enqueue(busy, "long")
        assert entered.wait(WAIT)
        (worker,) = starter.workers()
        (run,) = _strand(admin, other, busy, worker.worker_id, ["short"])
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


def test_a_worker_that_is_deprecated_leaves_nothing_behind_that_it_does_not_know(database: str, admin: Admin) -> None:
    job = echo_job("leaving")
    often = {"heartbeat_interval": 0.1, "stale_threshold": 60.0, "recovery_interval": 60.0}
    with running(database, jobs=[job], **often, **NEVER) as starter, pgflow.PgflowClient(database) as other:
        starter.await_ready(WAIT)
        (worker,) = starter.workers()
        _strand(admin, other, job, worker.worker_id, [1])
        admin.execute("update pgflow.workers set deprecated_at = now()")
        queued = "select 1 from pgflow.step_tasks where status = 'queued'"
        eventually(lambda: admin.execute(queued).fetchone(), WAIT, "the giving back")


def test_a_task_of_a_deprecated_worker_that_has_a_successor_goes_on_and_is_taken_by_nobody(
    database: str, admin: Admin
) -> None:
    entered, release = threading.Semaphore(0), threading.Event()
    often = {"heartbeat_interval": 0.1, "stale_threshold": 0.3, "recovery_interval": 0.1}

    @pgflow.job("goes_on")
    def goes_on(message: Any, ctx: pgflow.TaskContext) -> int:
        entered.release()
        release.wait(WAIT)
        return ctx.attempt

    with running(database, jobs=[goes_on], **often) as starter:
        starter.await_ready(WAIT)
        (before,) = starter.workers()
        run = starter.client.enqueue(goes_on, 1)
        assert entered.acquire(timeout=WAIT)
        admin.execute("update pgflow.workers set deprecated_at = now()")
        eventually(lambda: starter.workers()[0].draining, WAIT)
        starter.retry_now(goes_on)
        eventually(lambda: starter.workers()[0].worker_id != before.worker_id, WAIT, "a successor")
        second = starter.client.enqueue(goes_on, 2)
        assert entered.acquire(timeout=WAIT)
        age = "select now() - last_heartbeat_at < interval '0.3 s' from pgflow.workers where worker_id = %s"
        for _ in range(20):
            eventually(lambda: admin.execute(age, (before.worker_id,)).fetchone() == (True,), WAIT, "a heartbeat of it")
        release.set()
        assert [run.wait(WAIT).result, second.wait(WAIT).result] == [1, 1]
        assert not entered.acquire(blocking=False)


def test_what_is_locked_of_one_worker_keeps_no_other_from_being_reconciled(database: str, admin: Admin) -> None:
    first, second = echo_job("aa"), echo_job("bb")
    with (
        running(database, jobs=[first, second], **OFTEN, **NEVER) as starter,
        pgflow.PgflowClient(database) as other,
        psycopg.connect(database, autocommit=True) as holder,
    ):
        starter.await_ready(WAIT)
        ids = {worker.slug: worker.worker_id for worker in starter.workers()}
        locked = _strand(admin, other, first, ids["aa"], [1])
        with holder.transaction():
            holder.execute("select from pgmq.q_aa for update")
            free = _strand(admin, other, second, ids["bb"], [1])
            assert free[0].wait(WAIT).status == "completed"
        assert locked[0].wait(WAIT).status == "completed"
