"""The client: runs started, found, waited for, and never doubled."""

from __future__ import annotations

import threading
import uuid
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

import pgflow_starter as pgflow
from tests.support.starters import echo_job, running


def test_it_works_before_the_starter_is_ready(database: str) -> None:
    job = echo_job()
    with running(database, jobs=[job]) as starter:
        run = starter.client.enqueue(job, {"early": True})
        assert run.status == "started"
        assert run.wait(20).result == {"early": True}


def test_a_run_is_told_in_full(database: str) -> None:
    job = echo_job()
    with running(database, jobs=[job]) as starter:
        starter.await_ready(10)
        run = starter.client.enqueue("echo", [1, None, "ü"]).wait(20)
        assert (run.flow_slug, run.status, run.input, run.output) == (
            "echo",
            "completed",
            [1, None, "ü"],
            {"echo": [1, None, "ü"]},
        )
        assert run.finished
        assert run.error is None
        assert run.started_at is not None
        assert run.started_at.utcoffset() == timedelta(0)
        assert starter.client.run(str(run.id)) == run
        assert "client" not in repr(run)


def test_the_same_run_id_starts_one_run(database: str) -> None:
    chosen = uuid.uuid4()
    ran: list[Any] = []

    @pgflow.job("once")
    def once(message: Any, ctx: pgflow.TaskContext) -> None:
        ran.append(message)

    with running(database, jobs=[once, echo_job()]) as starter:
        first = starter.client.enqueue(once, 1, run_id=chosen)
        assert first.id == chosen
        assert starter.client.enqueue(once, 2, run_id=str(chosen)).input == 1
        assert first.wait(20).status == "completed"
        assert starter.client.enqueue(once, 3, run_id=chosen).status == "completed"
        with pytest.raises(pgflow.PgflowError, match="is a run of flow 'once'"):
            starter.client.enqueue("echo", 1, run_id=chosen)
    assert ran == [1]


def test_a_run_started_in_the_callers_transaction_is_there_when_it_commits(database: str) -> None:
    job = echo_job()
    with running(database, jobs=[job]) as starter:
        starter.await_ready(10)
        with psycopg.connect(database, row_factory=dict_row) as connection:
            lost = starter.client.enqueue(job, "lost", connection=connection)
            connection.rollback()
            with pytest.raises(pgflow.RunNotFoundError):
                starter.client.run(lost.id)
            kept = starter.client.enqueue(job, "kept", connection=connection)
            with pytest.raises(pgflow.RunNotFoundError):
                starter.client.run(kept.id)
            with pytest.raises(pgflow.UnknownFlowError):
                starter.client.enqueue("no_such_job", 1, connection=connection)
            connection.commit()
        assert starter.client.run(kept.id).wait(20).result == "kept"


def test_waiting_has_an_end(database: str, release: threading.Event) -> None:
    @pgflow.job("long")
    def long(message: Any, ctx: pgflow.TaskContext) -> None:
        release.wait()

    with running(database, jobs=[long]) as starter:
        run = starter.client.enqueue(long)
        with pytest.raises(TimeoutError, match=r"is still started after 0\.2 s"):
            run.wait(0.2)
        release.set()
        assert run.wait(20).finished


def test_errors_are_ours_and_name_the_remedy(database: str) -> None:
    with pgflow.PgflowClient(database) as client:
        with pytest.raises(pgflow.UnknownFlowError, match="'nope' is not in the database"):
            client.start_flow("nope", {})
        with pytest.raises(pgflow.RunNotFoundError, match="there is no run"):
            client.run(uuid.uuid4())
        with pytest.raises(ValueError, match="must be a UUID"):
            client.run("seven")
        with pytest.raises(ValueError, match=r"input\['x'\] is a set"):
            client.enqueue(echo_job(), {"x": set()})
        with pytest.raises(pgflow.DefinitionError, match="is not a flow"):
            client.start_flow(object(), {})  # type: ignore[call-overload]
    with pytest.raises(pgflow.PgflowError, match="closed"):
        client.run(uuid.uuid4())


def test_a_client_alone_starts_runs_for_a_starter_elsewhere(database: str) -> None:
    job = echo_job()
    with pgflow.PgflowClient(database) as client:
        run = client.enqueue(job, "before anybody was there")
        with running(database, jobs=[job]):
            assert run.wait(20).result == "before anybody was there"


def test_an_unreachable_database_is_an_error_of_ours_within_its_patience() -> None:
    with pgflow.PgflowClient("host=127.0.0.1 port=1 password=topsecret", patience=2) as client:
        with pytest.raises(pgflow.PgflowError, match="cannot be reached") as caught:
            client.enqueue("echo", 1)
        assert "topsecret" not in str(caught.value)
        assert "topsecret" not in repr(client)


def test_a_broken_pooled_connection_is_used_once_more_and_no_run_is_doubled(database: str) -> None:
    job = echo_job()
    with pgflow.PgflowClient(database) as client, psycopg.connect(database, autocommit=True) as admin:
        client.enqueue(job, 0)
        for i in range(1, 6):
            admin.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where application_name = 'pgflow_starter' and datname = current_database()"
            )
            client.enqueue(job, i)
        row = admin.execute("select count(*), count(distinct input) from pgflow.runs").fetchone()
        assert row == (6, 6)


def test_a_run_raises_for_its_status(database: str) -> None:
    good, bad = echo_job("good"), pgflow.job("bad", max_attempts=1)(lambda message, ctx: 1 / message)
    with running(database, jobs=[good, bad]) as starter:
        run = starter.client.enqueue(good, 1)
        with pytest.raises(pgflow.PgflowError, match=f"run {run.id} of flow 'good' has not ended, it is started"):
            run.raise_for_status()
        ended = run.wait(20)
        assert ended.raise_for_status() is ended
        failed = starter.client.enqueue(bad, 0).wait(20)
        with pytest.raises(pgflow.RunFailedError, match=f"run {failed.id} of flow 'bad' has failed: ZeroDivisionError"):
            failed.raise_for_status()
