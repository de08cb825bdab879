"""Flows deleted by a client: who keeps one that is to go, and what is told."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

import psycopg
import pytest

import pgflow_starter as pgflow
from pgflow_starter.errors import DatabaseError, PgflowError, UnknownFlowError
from pgflow_starter.postgres.client import removals
from pgflow_starter.postgres.connections.connection import Session
from pgflow_starter.postgres.stores import flow_change
from tests.postgres.rights_rig import QUOTED, Admin, compiled
from tests.postgres.test_changing import grant, told
from tests.support.starters import echo_job

WAIT = 30.0


@pytest.fixture
def client(database: str, admin: Admin) -> Iterator[pgflow.PgflowClient]:
    """Of a database with a job and two runs, which nobody works on."""
    compiled(admin, echo_job())
    with pgflow.PgflowClient(database) as client:
        client.enqueue_many("echo", [1, 2])
        yield client


def refused(client: pgflow.PgflowClient) -> PgflowError:
    with pytest.raises(PgflowError) as error:
        client.delete_flow("echo")
    assert len(client.runs(flow="echo")) == 2
    return error.value


def test_a_lock_of_somebodys_is_waited_for_and_then_told(
    database: str, client: pgflow.PgflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries, again, stored = list[Any](), threading.Event(), flow_change.stored_to_change

    def counted(conn: Any, slug: str, use: Any) -> Any:
        tries.append(conn)
        if len(tries) > 1:
            again.set()
        return stored(conn, slug, use)

    monkeypatch.setattr(removals, "stored_to_change", counted)
    with psycopg.connect(database) as other, ThreadPoolExecutor(1) as pool:
        other.execute("select from pgflow.runs for update")
        with monkeypatch.context() as patched:
            patched.setattr(removals, "PATIENCE", 0.0)
            error = refused(client)
        assert isinstance(error, DatabaseError)
        assert (error.locked, error.unknown, len(tries)) == (True, False, 1)
        assert "nothing was done, try again when that is over" in str(error)
        done = pool.submit(client.delete_flow, "echo")
        assert again.wait(WAIT)
        other.rollback()
        assert done.result(WAIT) == 2


def test_a_row_of_somebodys_that_refers_to_a_run_keeps_it(client: pgflow.PgflowClient, admin: Admin) -> None:
    admin.execute("create table orders (run_id uuid references pgflow.runs)")
    admin.execute("insert into orders select run_id from pgflow.runs limit 1")
    error = refused(client)
    assert isinstance(error, DatabaseError)
    assert error.sqlstate == "23503"
    assert '"orders"' in str(error)
    admin.execute("delete from orders")
    assert client.delete_flow("echo") == 2


def test_a_connection_that_breaks_after_it_was_done_makes_no_unknown_flow_of_it(
    client: pgflow.PgflowClient, admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    transaction, broken = Session.transaction, list[Session]()

    @contextmanager
    def breaking(conn: Session, *given: Any) -> Iterator[Any]:
        with transaction(conn, *given) as made:
            yield made
        if not broken:
            broken.append(conn)
            conn.close()
            raise psycopg.OperationalError("the connection is lost")

    monkeypatch.setattr(Session, "transaction", breaking)
    assert client.delete_flow("echo") == 2
    assert len(broken) == 1
    assert admin.execute("select count(*) from pgflow.flows").fetchone() == (0,)
    with pytest.raises(UnknownFlowError):
        client.delete_flow("echo")


def test_a_right_on_single_columns_that_does_not_do_is_told_with_what_mends_it(
    client: pgflow.PgflowClient, worker: str, admin: Admin
) -> None:
    with pgflow.PgflowClient(worker) as theirs:
        grant(admin, told(partial(theirs.delete_flow, "echo")))
        for statement in (
            f"alter table pgmq.q_echo owner to {QUOTED}; alter table pgmq.a_echo owner to {QUOTED}",
            f"revoke select on pgflow.runs from {QUOTED}; grant select (run_id) on pgflow.runs to {QUOTED}",
        ):
            admin.execute(statement.encode())
        reason = told(partial(theirs.delete_flow, "echo"))
        assert reason.startswith("permission denied for table runs: do this as the role that owns pgflow's tables")
        admin.execute(f"grant select on pgflow.runs to {QUOTED}".encode())
        assert theirs.delete_flow("echo") == 2
