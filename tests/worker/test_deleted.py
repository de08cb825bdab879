"""Runs that are deleted while somebody waits for them, or read while others wait."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import psycopg
import pytest

import pgflow_starter as pgflow
from pgflow_starter.postgres.client import endings
from pgflow_starter.postgres.client.run import FIND
from pgflow_starter.postgres.client.waits import Waits
from tests.support.starters import echo_job, running
from tests.support.waiting import eventually

WAIT = 20.0

Admin = psycopg.Connection[tuple[object, ...]]


@pytest.fixture
def admin(database: str) -> Iterator[Admin]:
    with psycopg.connect(database, autocommit=True) as connection:
        yield connection


@pytest.fixture
def client(database: str) -> Iterator[pgflow.PgflowClient]:
    with pgflow.PgflowClient(database) as client:
        yield client


def _delete(admin: Admin, *run_ids: UUID) -> None:
    for table in ("step_tasks", "step_states", "runs"):
        admin.execute(f"delete from pgflow.{table} where run_id = any(%s)", (list(run_ids),))


def _ends(wait: Callable[[], object]) -> tuple[threading.Thread, list[BaseException]]:
    """A thread that waits, and what ends its wait."""
    errors: list[BaseException] = []

    def call() -> None:
        try:
            wait()
        except pgflow.PgflowError as error:
            errors.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    return thread, errors


def test_a_run_that_was_started_and_deleted_ends_its_waiters(client: pgflow.PgflowClient, admin: Admin) -> None:
    job = echo_job()
    first, *many = [client.enqueue(job, 0), *client.enqueue_many(job, [1, 2])]
    found = client.run(first.id)
    waiting = [_ends(lambda run=run: run.wait(None)) for run in (first, found, *many)]  # type: ignore[misc]
    _delete(admin, first.id, many[0].id)
    for thread, errors in waiting[:3]:
        thread.join(WAIT)
        assert [type(error) for error in errors] == [pgflow.RunNotFoundError]
    assert waiting[3][0].is_alive()
    _delete(admin, many[1].id)
    waiting[3][0].join(WAIT)
    assert str(waiting[3][1][0]) == f"run {many[1].id} of flow 'echo' was deleted"


def test_a_run_of_the_callers_transaction_is_deleted_only_once_it_was_seen(
    client: pgflow.PgflowClient, admin: Admin, database: str
) -> None:
    job = echo_job()
    client.enqueue(job, 0)
    with psycopg.connect(database) as connection:
        runs = [client.enqueue(job, 1, connection=connection), *client.enqueue_many(job, [2], connection=connection)]
        for run in runs:
            with pytest.raises(TimeoutError):
                run.wait(0.1)
    for run in runs:
        with pytest.raises(TimeoutError):
            run.wait(0.1)
    _delete(admin, *(run.id for run in runs))
    for run in runs:
        with pytest.raises(pgflow.RunNotFoundError):
            run.wait(None)


def test_a_run_that_is_slow_to_be_read_holds_up_no_other(
    database: str, admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = "and case when r.input = '7' then pg_advisory_lock_shared(7)::text = '' else true end"
    monkeypatch.setattr(endings, "FIND", f"{FIND} {held}")
    admin.execute("select pg_advisory_lock(7)")
    job = echo_job()
    with running(database, jobs=[job]) as starter:
        large = starter.client.enqueue(job, 7)
        thread, errors = _ends(lambda: large.wait(WAIT))
        try:
            eventually(lambda: admin.execute("select from pg_locks where not granted and objid = 7").fetchone() == ())
            assert starter.client.enqueue(job, 8).wait(WAIT).result == 8
            with pytest.raises(TimeoutError, match="is completed, but cannot be read in time"):
                large.wait(0)
            assert thread.is_alive()
        finally:
            admin.execute("select pg_advisory_unlock(7)")
            thread.join(WAIT)
        assert errors == []


def test_a_run_that_is_deleted_when_it_is_about_to_be_read_is_told_so(
    database: str, admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = echo_job()
    with running(database, jobs=[job]) as starter:
        run = starter.client.enqueue(job, 1)
        wait = Waits.wait

        def then_deleted(*arguments: Any) -> str:
            status = wait(*arguments)
            _delete(admin, run.id)
            return status

        monkeypatch.setattr(Waits, "wait", then_deleted)
        with pytest.raises(pgflow.RunNotFoundError, match="was deleted"):
            run.wait(WAIT)
