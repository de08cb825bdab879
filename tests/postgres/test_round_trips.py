"""A transaction in a pipeline is one round trip: all of it counts, or nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pgflow_starter.errors import DatabaseError
from pgflow_starter.postgres.connections.connection import Connection
from pgflow_starter.postgres.connections.database import Database
from tests.support.database import opened
from tests.support.wire import Sent, Wire, traced


@pytest.fixture
def wire(tmp_path: Path) -> Iterator[Wire]:
    with traced(tmp_path / "wire") as wire:
        yield wire


@pytest.fixture
def db(empty_database: str, wire: Wire) -> Iterator[Database]:
    with opened(empty_database, pool_size=1) as db:
        with db.connection() as conn:
            conn.execute("create table t (i int primary key)")
        yield db


def rows(db: Database) -> list[int]:
    """What is there."""
    with db.connection() as conn:
        return [int(str(row[0])) for row in conn.execute("select i from t order by i")]


def together(conn: Connection, *statements: Any, reads: bool = False) -> None:
    """Execute them in one transaction in a pipeline; an exception among them is raised."""
    with conn.pipeline(), conn.transaction():
        for statement in statements:
            if isinstance(statement, Exception):
                raise statement
            conn.execute(statement)
            if reads:
                assert conn.execute("select count(*) from t").fetchone()


def test_its_statements_go_out_together_and_see_each_other(db: Database, wire: Wire) -> None:
    wire.sent()
    with db.connection() as conn, conn.pipeline(), conn.transaction():
        conn.execute("select set_config('work_mem', '8MB', true)")
        conn.execute("insert into t values (1)")
        cursor = conn.execute("select i, current_setting('work_mem') from t")
    assert wire.sent() == Sent(turns=1, statements=5)
    assert cursor.fetchall() == [(1, "8MB")]
    with db.connection() as conn:
        assert conn.execute("select current_setting('work_mem')").fetchone() != ("8MB",)


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ("insert into t values (1)", DatabaseError),
        ("select 1 / 0", DatabaseError),
        (LookupError(), LookupError),
        (object(), TypeError),  # no statement
    ],
)
@pytest.mark.parametrize("reads", [False, True])
def test_whatever_fails_takes_all_of_it_along(db: Database, wrong: object, error: type[Exception], reads: bool) -> None:
    with pytest.raises(error), db.connection() as conn:
        together(conn, "insert into t values (1)", wrong, "insert into t values (2)", reads=reads)
    assert rows(db) == []


def test_what_is_refused_at_its_end_is_raised_as_itself_and_the_connection_is_kept(db: Database) -> None:
    with db.connection() as conn:
        conn.execute("alter table t add column late int unique deferrable initially deferred")
        backend = conn.info.backend_pid
    twice = "insert into t values ({}, 7)"
    with pytest.raises(DatabaseError) as raised, db.connection() as conn:
        together(conn, twice.format(1), twice.format(2))
    assert (raised.value.sqlstate, raised.value.connection_lost) == ("23505", False)
    with db.connection() as conn:
        together(conn, twice.format(3))
        assert conn.info.backend_pid == backend
    assert rows(db) == [3]


def test_within_another_transaction_it_is_a_part_of_that(db: Database) -> None:
    with db.connection() as conn, conn.transaction(force_rollback=True):
        together(conn, "insert into t values (1)")
    with db.connection() as conn, conn.transaction():
        conn.execute("insert into t values (2)")
        with pytest.raises(psycopg.errors.UniqueViolation):
            together(conn, "insert into t values (3)", "insert into t values (2)")
    assert rows(db) == [2]


def test_each_has_the_limits_of_its_call(db: Database, wire: Wire) -> None:
    wire.sent()
    with db.connection(within=3.0) as conn, conn.pipeline(), conn.transaction():
        cursor = conn.execute("select current_setting('statement_timeout')")
    assert wire.sent() == Sent(turns=1, statements=4)
    assert cursor.fetchone() == ("2s",)
