"""Another runtime's worker is silent while it works: its tasks are its own until they are too old as well."""

from __future__ import annotations

from typing import Any

import pytest

import pgflow_starter as pgflow
from pgflow_starter.postgres.stores.stalled import GRACE
from pgflow_starter.postgres.stores.tasks import PostgresTaskStore
from tests.neighbours.other_runtime import Admin, OtherWorker
from tests.support.database import opened
from tests.support.starters import echo_job, running

QUICK = {"heartbeat_interval": 0.1, "stale_threshold": 0.3, "recovery_interval": 0.1}
STALE = 0.3
"""Less than the server's age: what could not be heard while it was down counts for nothing."""


def _recovered(database: str, slug: str) -> int:
    with opened(database) as opening:
        return PostgresTaskStore(opening).recover_stalled([slug], [], STALE)


def _held(admin: Admin, worker: OtherWorker) -> list[tuple[Any, ...]]:
    return admin.execute(
        "select run_id, step_slug, task_index from pgflow.step_tasks where last_worker_id = %s and status = 'started'",
        (worker.worker_id,),
    ).fetchall()


def test_a_task_of_100_s_is_left_to_the_worker_that_is_at_it(database: str, admin: Admin) -> None:
    job = echo_job("long", max_attempts=1, timeout=120)
    with pgflow.PgflowClient(database) as client:
        run = client.enqueue(job)
        other = OtherWorker(admin, "long")
        tasks = other.claim()
        other.worked_for(100)
        beside = client.enqueue(job)
        dead = OtherWorker(admin, "long", ours=True)
        dead.claim()
        dead.worked_for(100)
        with running(database, jobs=[job], **QUICK):
            assert beside.wait(20).status == "failed"  # a sweep has been made
            assert _held(admin, other) == tasks
            other.complete(tasks)
            assert run.wait(20).result == "theirs"


@pytest.mark.parametrize(
    ("ours", "flow_timeout", "step_timeout", "age", "recovered"),
    [
        (False, 60, None, 60 + GRACE - 5, 0),
        (False, 60, None, 60 + GRACE + 5, 1),
        (False, 10, 300, 300 + GRACE - 5, 0),
        (False, 300, 10, 10 + GRACE + 5, 1),
        (True, 600, 600, 1, 1),
    ],
)
def test_a_silent_workers_task_is_stalled_by_its_steps_timeout_and_one_of_ours_at_any_age(
    database: str, admin: Admin, ours: bool, flow_timeout: int, step_timeout: int | None, age: float, recovered: int
) -> None:
    flow = pgflow.Flow("aged", timeout=flow_timeout)
    flow.step(slug="only", timeout=step_timeout)(lambda given, ctx: given)
    with pgflow.PgflowClient(database) as client:
        client.start_flow(flow)
        worker = OtherWorker(admin, "aged", ours=ours)
        assert worker.claim()
        worker.worked_for(age)
        assert _recovered(database, "aged") == recovered


@pytest.mark.parametrize(("age", "recovered"), [(60 + GRACE - 5, 0), (60 + GRACE + 5, 1)])
@pytest.mark.parametrize("oddity", ["delete from pgflow.workers", "update pgflow.step_tasks set started_at = null"])
def test_so_is_one_whose_workers_row_is_gone_and_one_that_nobody_knows_the_start_of(
    database: str, admin: Admin, oddity: str, age: float, recovered: int
) -> None:
    with pgflow.PgflowClient(database) as client:
        client.enqueue(echo_job("odd", timeout=60))
        worker = OtherWorker(admin, "odd")
        worker.claim()
        worker.worked_for(age)
        admin.execute(oddity.encode())
        assert _recovered(database, "odd") == recovered


def test_an_old_task_of_a_worker_that_is_heard_of_is_left_to_it(database: str, admin: Admin) -> None:
    with pgflow.PgflowClient(database) as client:
        client.enqueue(echo_job("heard", timeout=1))
        worker = OtherWorker(admin, "heard")
        worker.claim()
        worker.worked_for(1000)
        admin.execute("update pgflow.workers set last_heartbeat_at = now() + interval '1 minute'")
        assert _recovered(database, "heard") == 0


def test_the_tasks_of_one_that_says_that_it_stopped_are_taken_over_at_once(database: str, admin: Admin) -> None:
    job = echo_job("stopped", timeout=600)
    admin.execute("alter table pgflow.workers add column stopped_at timestamptz")  # as newer cores have it
    with pgflow.PgflowClient(database) as client:
        run = client.enqueue(job, 7)
        worker = OtherWorker(admin, "stopped")
        assert worker.claim()
        assert _recovered(database, "stopped") == 0
        admin.execute("update pgflow.workers set stopped_at = clock_timestamp()")
        with running(database, jobs=[job], recovery_interval=0.1):
            assert run.wait(20).result == 7


def test_one_that_is_heard_of_after_it_said_that_it_stopped_has_not(database: str, admin: Admin) -> None:
    admin.execute("alter table pgflow.workers add column stopped_at timestamptz")
    with pgflow.PgflowClient(database) as client:
        client.enqueue(echo_job("going_on", timeout=600))
        worker = OtherWorker(admin, "going_on")
        assert worker.claim()
        admin.execute("update pgflow.workers set stopped_at = now() - interval '1 s', last_heartbeat_at = now()")
        assert _recovered(database, "going_on") == 0


def test_a_worker_of_ours_is_marked_by_a_name_that_no_edge_function_has(database: str, admin: Admin) -> None:
    with running(database, jobs=[echo_job("marked")]) as starter:
        starter.await_ready(10)
        rows = admin.execute("select queue_name, function_name from pgflow.workers").fetchall()
    assert rows == [("marked", "pgflow_starter:marked")]
