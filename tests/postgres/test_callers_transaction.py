"""Runs started inside a caller's transaction that sees the database as it was."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import IsolationLevel

import pgflow_starter as pgflow
from tests.support.starters import echo_job


@pytest.fixture
def earlier(database: str) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """A connection in a transaction that sees nothing of what happens from now on."""
    with psycopg.connect(database) as connection:
        connection.isolation_level = IsolationLevel.REPEATABLE_READ
        connection.execute("select count(*) from pgflow.runs")
        yield connection
        connection.rollback()


def test_a_run_that_exists_and_cannot_be_seen_is_told_as_such(
    database: str, earlier: psycopg.Connection[tuple[object, ...]]
) -> None:
    job, chosen = echo_job(), uuid.uuid4()
    with pgflow.PgflowClient(database) as client:
        client.enqueue(job, 0)
        earlier.rollback()
        earlier.execute("select count(*) from pgflow.runs")
        client.enqueue(job, 1, run_id=chosen)
        with pytest.raises(pgflow.PgflowError, match=f"run {chosen} exists, but this transaction") as caught:
            client.enqueue(job, 2, run_id=chosen, connection=earlier)
        assert not isinstance(caught.value, pgflow.UnknownFlowError)
        earlier.rollback()
        assert client.enqueue(job, 2, run_id=chosen, connection=earlier).input == 1


def test_a_flow_that_exists_and_cannot_be_seen_is_told_as_such(
    database: str, earlier: psycopg.Connection[tuple[object, ...]]
) -> None:
    job = echo_job()
    with pgflow.PgflowClient(database) as client:
        with pytest.raises(pgflow.PgflowError, match="flow 'echo' exists, but this transaction") as caught:
            client.enqueue(job, 1, connection=earlier)
        assert not isinstance(caught.value, pgflow.UnknownFlowError)
        earlier.rollback()
        run = client.enqueue(job, 1, connection=earlier)
        earlier.commit()
        assert client.run(run.id).input == 1


def test_a_connection_without_text_is_refused_with_the_remedy_which_helps(database: str) -> None:
    with pgflow.PgflowClient(database) as client, psycopg.connect(database, client_encoding="SQL_ASCII") as connection:
        with pytest.raises(pgflow.PgflowError, match="SET client_encoding TO 'UTF8'"):
            client.enqueue(echo_job(), "x", connection=connection)
        connection.execute("set client_encoding to 'UTF8'")
        assert client.enqueue(echo_job(), "ü", connection=connection).input == "ü"


def of(module: str, name: str) -> Any:
    """An object of a class of somebody's own that derives from that one of a library's."""
    theirs = type(name, (), {"__module__": module})
    return type("Mine", (theirs,), {"__module__": "shop.database"})()


@pytest.mark.parametrize(
    ("module", "name", "instead"),
    [
        ("sqlalchemy.engine.base", "Engine", r"what `with engine\.begin\(\) as \.\.\.` gives"),
        ("sqlalchemy.ext.asyncio.session", "AsyncSession", r"a psycopg\.Connection that is not asyncio's"),
        ("psycopg", "AsyncConnection", r"a psycopg\.Connection that is not asyncio's"),
        ("psycopg", "Cursor", "its attribute connection"),
        ("psycopg_pool.pool", "ConnectionPool", r"what `with pool\.connection\(\) as \.\.\.` gives"),
        ("psycopg2.extensions", "connection", r"one that psycopg\.connect made"),
    ],
)
def test_another_library_s_connection_is_refused_with_what_to_pass_instead(
    module: str, name: str, instead: str
) -> None:
    told = rf"connection must be a psycopg\.Connection, got shop\.database\.Mine: pass {instead}"
    with pgflow.PgflowClient("host=127.0.0.1 port=1") as client, pytest.raises(TypeError, match=told):
        client.enqueue(echo_job(), 1, connection=of(module, name))


def test_what_is_no_connection_of_anybody_s_is_refused_without_being_shown() -> None:
    with pgflow.PgflowClient("host=127.0.0.1 port=1") as client:
        for given, told in (("password=secret", r"builtins\.str: pass one that is open"), (7, r"builtins\.int")):
            with pytest.raises(TypeError, match=rf"got {told}") as refused:
                client.start_flows(echo_job(), [1], connection=given)
            assert "secret" not in str(refused.value)
