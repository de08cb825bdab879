"""Messages without a task, and tasks that cannot be started: seen once, put aside, said, and nobody else's trouble."""

from __future__ import annotations

import threading
from typing import Any

import pytest

import pgflow_starter as pgflow
from tests.support.starters import STRATEGIES, echo_job, running
from tests.support.waiting import eventually
from tests.trouble.conftest import Admin

WAIT = 30.0
SEND = """
select count(*) from pgmq.send_batch('echo', array(select '{"foreign": true}'::jsonb from generate_series(1, %s)))
"""


def _visible(admin: Admin) -> int:
    row = admin.execute("select count(*) from pgmq.q_echo where vt <= clock_timestamp()").fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_thousands_of_them_are_put_aside_and_real_ones_run(
    database: str, admin: Admin, strategy: str, caplog: pytest.LogCaptureFixture
) -> None:
    job = echo_job()
    with running(database, jobs=[job], signal_strategy=strategy) as starter:
        starter.await_ready(WAIT)
        admin.execute(SEND, (3000,))
        for number in range(10):
            assert starter.client.enqueue(job, number).wait(WAIT).result == number
        eventually(lambda: _visible(admin) == 0, WAIT)
        reads = admin.execute("select max(read_ct) from pgmq.q_echo").fetchone()
        assert reads == (1,)
    assert len([r for r in caplog.records if "belong to no task" in r.getMessage() and r.levelname == "WARNING"]) == 1


def test_each_time_that_one_is_seen_it_is_left_alone_for_twice_as_long(
    database: str, admin: Admin, caplog: pytest.LogCaptureFixture
) -> None:
    job = echo_job()
    away = "select 1 from pgmq.q_echo where read_ct = %s and vt > clock_timestamp() + make_interval(secs => %s)"
    with running(database, jobs=[job]) as starter:
        starter.await_ready(WAIT)
        admin.execute(SEND, (1,))
        eventually(lambda: [r for r in caplog.records if "belong to no task" in r.getMessage()], WAIT)
        for times in range(1, 5):
            least = 50 * 2 ** (times - 1)
            eventually(lambda t=times, s=least: admin.execute(away, (t, s)).fetchone(), WAIT)  # type: ignore[misc]
            admin.execute("update pgmq.q_echo set vt = clock_timestamp()")


def test_a_task_that_cannot_be_started_keeps_no_other_from_it(
    database: str, admin: Admin, caplog: pytest.LogCaptureFixture
) -> None:
    job = echo_job()
    with pgflow.PgflowClient(database) as client:
        run = client.enqueue(job, "from a clock that is ahead")
        admin.execute("update pgflow.step_tasks set queued_at = now() + interval '3 s'")
        with running(database, jobs=[job]) as starter:
            for number in range(10):
                assert starter.client.enqueue(job, number).wait(WAIT).result == number
            eventually(lambda: [r for r in caplog.records if "cannot be started" in r.getMessage()])
            assert run.wait(WAIT).status == "completed"


def test_a_real_message_that_is_redelivered_while_its_task_runs_is_not_put_aside(
    database: str, admin: Admin, release: threading.Event
) -> None:
    entered = threading.Event()

    @pgflow.job("long")
    def long(message: Any, ctx: pgflow.TaskContext) -> None:
        if message == 0:
            entered.set()
            release.wait()

    with running(database, jobs=[long]) as starter:
        starter.await_ready(WAIT)
        run = starter.client.enqueue(long, 0)
        assert entered.wait(WAIT)
        admin.execute("update pgmq.q_long set vt = clock_timestamp()")
        for number in range(1, 5):
            starter.client.enqueue(long, number).wait(WAIT)
        row = admin.execute("select read_ct, vt < clock_timestamp() + interval '63 s' from pgmq.q_long").fetchone()
        assert row == (2, True)
        release.set()
        assert run.wait(WAIT).status == "completed"


def test_one_stalled_task_that_cannot_be_failed_hides_no_other_from_the_sweep(database: str, admin: Admin) -> None:
    job = echo_job("dead", max_attempts=1, timeout=600)
    quick = {"heartbeat_interval": 0.1, "stale_threshold": 0.3, "recovery_interval": 0.1}
    with pgflow.PgflowClient(database) as client:
        runs = sorted((client.enqueue(job, n) for n in range(5)), key=lambda run: run.id)
        admin.execute("update pgflow.step_tasks set queued_at = now() - interval '1 day'")
        admin.execute(
            "update pgflow.step_tasks set status = 'started', attempts_count = 1, started_at = now() - interval '1 day'"
        )
        admin.execute(
            "create function refuse() returns trigger language plpgsql as $$ begin raise exception 'no'; end $$"
        )
        admin.execute(
            f"create trigger refuse before update on pgflow.step_tasks for each row"
            f" when (old.run_id = '{runs[0].id}') execute function refuse()"
        )
        with running(database, jobs=[job], **quick):
            for run in runs[1:]:
                assert run.wait(WAIT).status == "failed"
            assert runs[0].refresh().status == "started"
            admin.execute("drop trigger refuse on pgflow.step_tasks")
            assert runs[0].wait(WAIT).status == "failed"


def test_queued_tasks_of_a_run_that_has_failed_are_put_aside_like_those_of_nobody(database: str, admin: Admin) -> None:
    flow = pgflow.Flow("failed")

    @flow.map()
    def each(item: Any, ctx: pgflow.TaskContext) -> Any:
        return item

    with pgflow.PgflowClient(database) as client:
        bad = client.start_flow(flow, list(range(500)))
        admin.execute("update pgflow.runs set status = 'failed', failed_at = now()")
        with running(database, flows=[flow]) as starter:
            for number in range(5):
                assert starter.client.start_flow(flow, [number]).wait(WAIT).result == [number]
            far = "select count(*) from pgmq.q_failed where vt > clock_timestamp() + interval '30 s'"
            eventually(lambda: admin.execute(far).fetchone() == (500,), WAIT)
        assert bad.refresh().status == "failed"
