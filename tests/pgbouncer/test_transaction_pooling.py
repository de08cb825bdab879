"""Through a transaction pooler with two connections: everything works, LISTEN by the server's own address."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import psycopg
import pytest

import pgflow_starter as pgflow
from pgflow_starter.postgres.listening import proof
from pgflow_starter.postgres.setup.install import check, install
from pgflow_starter.postgres.stores.forgetting import TRY_IN_BATCH
from pgflow_starter.postgres.stores.worker_rows import MARK
from tests.support.old_runs import left, make_runs
from tests.support.planted import caught, plant
from tests.support.starters import STRATEGIES, echo_job, running
from tests.support.waiting import eventually

OFTEN = {"heartbeat_interval": 0.1, "recovery_interval": 0.1, "stale_threshold": 0.5}
SELDOM = {"min_poll_interval": 60.0, "max_poll_interval": 60.0, "notify_fallback_interval": 60.0}


def settings(database: str, strategy: str) -> dict[str, Any]:
    own = {"listen_conninfo": database} if strategy == "notify" else {}
    return {"signal_strategy": strategy, **own, **OFTEN}


def order() -> pgflow.Flow:
    """A step, a map over what it returns, a step on what that makes, and one that fails once."""
    flow = pgflow.Flow("order", max_attempts=3, base_delay=0)

    @flow.step()
    def lines(given: Any, ctx: pgflow.TaskContext) -> Any:
        return given["lines"]

    @flow.map(array="lines")
    def price(line: int, ctx: pgflow.TaskContext) -> int:
        return line * ctx.flow_input["factor"]  # type: ignore[no-any-return]

    @flow.step(depends_on=["price"])
    def total(deps: Any, ctx: pgflow.TaskContext) -> Any:
        if ctx.attempt == 1:
            raise OSError("the first attempt always fails")
        return [sum(deps["price"]), ctx.attempt]

    return flow


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_flows_with_maps_and_retries_and_jobs_run_in_numbers(database: str, pooled: str, strategy: str) -> None:
    flow, jobs = order(), [echo_job(f"echo_{i}") for i in range(4)]
    with running(pooled, flows=[flow], jobs=jobs, **settings(database, strategy)) as starter:
        starter.await_ready(30)
        orders = [starter.client.start_flow(flow, {"lines": list(range(10)), "factor": i}) for i in range(5)]
        echoes = [starter.client.enqueue(jobs[i % 4], {"n": i, "text": "ä" * 500}) for i in range(40)]
        assert [run.wait(30).result for run in orders] == [[45 * i, 2] for i in range(5)]
        assert [run.wait(30).result["n"] for run in echoes] == list(range(40))
        assert [m.status for m in starter.status().modules] == ["succeeded"] * 5
        assert starter.status().outage is None


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_what_fails_is_tried_again_and_fails_for_good_with_its_error(database: str, pooled: str, strategy: str) -> None:
    @pgflow.job("hopeless", max_attempts=2, base_delay=0)
    def hopeless(message: Any, ctx: pgflow.TaskContext) -> None:
        raise RuntimeError(f"attempt {ctx.attempt}")

    with running(pooled, jobs=[hopeless], **settings(database, strategy)) as starter:
        run = starter.client.enqueue(hopeless).wait(20)
        assert run.status == "failed"
        assert run.error is not None
        assert run.error.startswith("RuntimeError: attempt 2")


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_heartbeats_go_out_while_tasks_run_and_stop_drains_and_says_so(
    database: str, pooled: str, strategy: str
) -> None:
    entered, release = threading.Barrier(6), threading.Event()

    @pgflow.job("slow")
    def slow(message: Any, ctx: pgflow.TaskContext) -> str:
        entered.wait(20)
        assert release.wait(20)
        return "done"

    with running(pooled, jobs=[slow], **settings(database, strategy)) as starter:
        runs = [starter.client.enqueue(slow, i) for i in range(5)]
        entered.wait(20)
        first = heartbeat(database)
        eventually(lambda: heartbeat(database) > first, 10, "another heartbeat")
        stopper = threading.Thread(target=starter.stop)
        stopper.start()
        release.set()
        stopper.join(20)
    with psycopg.connect(database) as conn:
        assert conn.execute("select deprecated_at is not null from pgflow.workers").fetchall() == [(True,)]
    with pgflow.PgflowClient(pooled) as client:
        assert [client.run(run.id).result for run in runs] == ["done"] * 5


def heartbeat(database: str) -> Any:
    with psycopg.connect(database) as conn:
        row = conn.execute("select last_heartbeat_at from pgflow.workers").fetchone()
    assert row is not None
    return row[0]


def test_notifications_come_by_the_servers_own_address(database: str, pooled: str) -> None:
    with (
        running(
            pooled,
            jobs=[echo_job()],
            **{**settings(database, "notify"), **SELDOM},
        ) as starter,
        pgflow.PgflowClient(pooled) as other,
    ):
        starter.await_ready(30)
        for i in range(3):
            assert other.enqueue("echo", i).wait(10).result == i


def test_a_worker_that_died_is_recovered_from(database: str, pooled: str) -> None:
    with running(pooled, jobs=[echo_job()], **settings(database, "polling")) as starter:
        starter.await_ready(30)
    with pgflow.PgflowClient(pooled) as client, psycopg.connect(database) as conn:
        run = client.enqueue("echo", "again")
        conn.execute(DEAD_WORKER, (MARK + "echo",))
        conn.execute(CLAIMED_BY_IT)
        conn.commit()
        with running(pooled, jobs=[echo_job()], **settings(database, "polling")):
            assert run.wait(20).result == "again"


DEAD_WORKER = """
insert into pgflow.workers (worker_id, queue_name, function_name, started_at, last_heartbeat_at)
values (gen_random_uuid(), 'echo', %s, now() - interval '2 h', now() - interval '1 h')
"""
CLAIMED_BY_IT = """
select pgflow.start_tasks('echo', array(select msg_id from pgmq.q_echo), worker_id)
from pgflow.workers where deprecated_at is null
"""


def test_a_run_is_started_inside_the_callers_own_transaction(database: str, pooled: str) -> None:
    job = echo_job()
    with running(pooled, jobs=[job], **settings(database, "notify")) as starter:
        starter.await_ready(30)
        with psycopg.connect(pooled, prepare_threshold=None) as conn:
            run = starter.client.enqueue(job, 7, connection=conn)
            with pytest.raises(pgflow.RunNotFoundError):
                starter.client.run(run.id)
        assert run.wait(10).result == 7


def test_without_an_address_of_its_own_listen_fails_for_good_and_says_why(
    pooled: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proof, "TIMEOUT", 1.0)
    with running(pooled, jobs=[echo_job(), echo_job("other")], signal_strategy="notify") as starter:
        starter.await_ready(60)
        assert not starter.healthy()
        for state in starter.status().modules:
            assert (state.status, state.phase) == ("failed_permanent", None)
            assert state.last_error is not None
            assert state.last_error.phase == "notify_register"
            assert "LISTEN cannot work through a transaction pooler" in state.last_error.reason
            assert "listen_conninfo" in state.last_error.reason


def test_no_session_keeps_anything_of_ours(database: str, pooled: str) -> None:
    with running(pooled, flows=[order()], jobs=[echo_job()], **settings(database, "notify")) as starter:
        starter.await_ready(30)
        for run in [starter.client.enqueue("echo", i) for i in range(10)]:
            run.wait(10)
        starter.client.enqueue("echo", 1, delay=500)
        counted = {queue.depth.queue: queue.depth.hidden for queue in starter.views.queues(patience=10)}
        assert counted == {"echo": 1, "order": 0}
        with (
            psycopg.connect(pooled, autocommit=True, prepare_threshold=None) as first,
            psycopg.connect(pooled, autocommit=True, prepare_threshold=None) as second,
            first.transaction(),
        ):
            # Both of the pool's connections, one held by a transaction.
            for conn in (first, second):
                assert conn.execute(LEFT_BEHIND).fetchone() == (0, 0, 0, 0)


def test_installing_and_checking_run_nothing_planted_and_leave_nothing_behind(database: str, pooled: str) -> None:
    plant(database, functions=(), operators=["||", "="])
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("drop schema pgflow cascade")
    assert install(pooled).inventory == check(pooled)
    with psycopg.connect(pooled, autocommit=True, prepare_threshold=None) as connection:
        assert connection.execute(LEFT_BEHIND).fetchone() == (0, 0, 0, 0)
    assert caught(database) == []


ADVISORY_LOCKS = """
select from pg_locks where locktype = 'advisory'
and database = (select oid from pg_database where datname = current_database())
"""
LEFT_BEHIND = """
select (select count(*) from pg_prepared_statements), (select count(*) from pg_listening_channels()),
       (select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()),
       (select count(*) from pg_settings where source = 'session' and name <> 'client_encoding'
        and name <> 'application_name')
"""


def test_old_runs_are_deleted_by_one_process_at_a_time_with_no_lock_of_a_session(database: str, pooled: str) -> None:
    with (
        pgflow.PgflowClient(pooled) as client,
        psycopg.connect(database, autocommit=True) as admin,
        psycopg.connect(database) as other,
    ):
        client.enqueue(echo_job(), 1)
        old = make_runs(admin, 502)
        client.delete(old[0])
        other.execute(TRY_IN_BATCH)  # as another one holds it while a batch lasts
        assert client.prune(timedelta(days=30)) == 0
        other.rollback()
        assert client.prune(timedelta(days=30)) == 501
        assert left(admin, "pgmq.a_echo")["pgmq.a_echo"] == 0
        assert client.delete_flow("echo") == 1
        assert admin.execute(ADVISORY_LOCKS).rowcount == 0
