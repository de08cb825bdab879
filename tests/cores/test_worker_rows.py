"""What the database tells of our workers: alive, wanted no more, stopped."""

from __future__ import annotations

import threading
from typing import Any

import pgflow_starter as pgflow
from tests.cores.stand_in import Admin, attempts, has
from tests.support.starters import await_state, echo_job, opened, running
from tests.support.waiting import eventually


def _workers(admin: Admin) -> list[dict[str, Any]]:
    return [row[0] for row in admin.execute("select to_jsonb(w) from pgflow.workers w").fetchall()]  # type: ignore[misc]


def test_a_worker_is_registered_beats_and_is_marked_stopped_as_its_core_does_it(database: str, admin: Admin) -> None:
    newer = has(admin, "mark_worker_stopped")
    with running(database, jobs=[echo_job()], heartbeat_interval=0.05) as starter:
        starter.await_ready(20)
        (born,) = _workers(admin)
        assert (born["queue_name"], born["deprecated_at"], born.get("stopped_at")) == ("echo", None, None)
        eventually(lambda: _workers(admin)[0]["last_heartbeat_at"] > born["last_heartbeat_at"])
    (gone,) = _workers(admin)
    assert gone["worker_id"] == born["worker_id"]
    assert (gone["deprecated_at"] is None, gone.get("stopped_at") is None) == (newer, not newer)


def test_our_workers_are_never_tracked_as_functions_to_be_called_over_http(database: str, admin: Admin) -> None:
    with running(database, jobs=[echo_job()]) as starter:
        starter.await_ready(20)
    if has(admin, "track_worker_function"):
        assert admin.execute("select from pgflow.worker_functions").fetchone() is None


def test_a_worker_that_is_deprecated_claims_no_more_and_ends_what_it_has(
    database: str, admin: Admin, release: threading.Event
) -> None:
    entered = threading.Event()

    @pgflow.job("asked")
    def asked(message: Any, ctx: pgflow.TaskContext) -> Any:
        entered.set()
        release.wait()
        return message

    with opened(database, jobs=[asked], heartbeat_interval=0.05) as (starter, runtime):
        run = starter.client.enqueue(asked, "begun")
        assert entered.wait(20)
        admin.execute("update pgflow.workers set deprecated_at = now()")
        eventually(lambda: starter.workers()[0].draining)
        (cell,) = runtime.parts.workers.cells()
        eventually(lambda: not cell.claims.under_way)  # one that began before may take what is sent now
        starter.client.enqueue(asked, "too late")
        release.set()
        assert run.wait(20).result == "begun"
        ended = await_state(starter, asked, lambda s: s.status is pgflow.ModuleStatus.FAILED_PERMANENT)
        assert ended.last_error is not None
        assert "deprecated_at" in ended.last_error.reason
        last_heard = admin.execute("select last_heartbeat_at from pgflow.workers").fetchall()
        rows = admin.execute("select status from pgflow.step_tasks order by queued_at").fetchall()
        assert rows == [("completed",), ("queued",)]
        starter.retry_now(asked)
        await_state(starter, asked, lambda s: s.status is pgflow.ModuleStatus.SUCCEEDED)
        eventually(lambda: admin.execute("select from pgflow.runs where status = 'started'").fetchone() is None)
        again = admin.execute("select last_heartbeat_at from pgflow.workers where deprecated_at is not null")
        assert set(again.fetchall()) == set(last_heard)  # who has stopped is not heard of any more


def test_what_has_not_ended_at_stop_is_given_back_and_its_attempt_is_not_burnt(
    database: str, admin: Admin, release: threading.Event
) -> None:
    entered = threading.Event()
    seen: list[int] = []

    @pgflow.job("handed_on", max_attempts=1, timeout=600)
    def handed_on(message: Any, ctx: pgflow.TaskContext) -> str:
        seen.append(ctx.attempt)
        if len(seen) == 1:
            entered.set()
            release.wait()
        return f"attempt {ctx.attempt}"

    with running(database, jobs=[handed_on], shutdown_timeout=0.1) as first:
        run = first.client.enqueue(handed_on)
        assert entered.wait(20)
    try:
        row = admin.execute("select vt <= clock_timestamp() from pgmq.q_handed_on").fetchone()
        assert (row, attempts(admin, run.id)) == ((True,), [0])
        with running(database, jobs=[handed_on]) as second:
            assert second.client.run(run.id).wait(20).result == "attempt 1"
    finally:
        release.set()
    assert (seen, attempts(admin, run.id)) == ([1, 1], [1])


def test_a_run_waits_for_a_worker_and_not_for_one_that_stopped(database: str, admin: Admin) -> None:
    job = echo_job()
    with running(database, jobs=[job]) as first:
        first.await_ready(20)
    with pgflow.PgflowClient(database) as client:
        run = client.enqueue(job, "meanwhile")
        with running(database, jobs=[job]):
            assert run.wait(20).result == "meanwhile"
    assert len(_workers(admin)) == 2
