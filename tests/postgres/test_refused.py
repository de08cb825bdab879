"""A server that lets nobody in any more: no outage for the sessions there are, and looked at again soon."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from pgflow_starter.errors import DatabaseError
from pgflow_starter.postgres.embedded.server import EmbeddedPostgres
from tests.support.database import opened
from tests.support.waiting import eventually

Admin = psycopg.Connection[tuple[object, ...]]
KILL = "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'guest'"


@pytest.fixture
def admin(server: EmbeddedPostgres) -> Iterator[Admin]:
    with psycopg.connect(server.conninfo(), autocommit=True) as admin:
        admin.execute("create role guest login superuser")
        try:
            yield admin
        finally:
            admin.execute(KILL)
            admin.execute("drop role guest")


def test_new_logins_that_are_refused_are_no_outage_while_there_are_good_sessions(
    server: EmbeddedPostgres, admin: Admin
) -> None:
    conninfo = make_conninfo(server.conninfo(), user="guest")
    with opened(conninfo, pool_size=4) as db:
        with db.connection() as conn:
            conn.execute("select 1")
        admin.execute("alter role guest nologin")
        got: list[object] = []

        def ask() -> None:
            with db.connection() as conn:
                got.append(conn.execute("select 1 from pg_sleep(0.05)").fetchone())

        threads = [threading.Thread(target=ask) for _ in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        assert got == [(1,)] * 10
        assert db.outage is None
        admin.execute("alter role guest login")

        def grows() -> bool:
            with ExitStack() as stack:
                try:
                    for _ in range(4):
                        stack.enter_context(db.connection(patience=0.1))
                except DatabaseError:
                    return False
            return True

        eventually(grows, 5, "a pool at its full size")


def test_once_its_sessions_are_gone_too_it_is_an_outage_which_ends_soon_after_logins_are_let_in_though_nobody_asks(
    server: EmbeddedPostgres, admin: Admin
) -> None:
    conninfo = make_conninfo(server.conninfo(), user="guest")
    with opened(conninfo, pool_size=2) as db:
        with db.connection() as conn:
            conn.execute("select 1")
        admin.execute("alter role guest nologin")
        admin.execute(KILL)
        with pytest.raises(DatabaseError), db.connection() as conn:
            conn.execute("select 1")
        eventually(lambda: db.outage)
        admin.execute("alter role guest login")
        eventually(lambda: db.outage is None, what="the end of the outage")


def test_a_doubt_has_a_refusing_server_looked_at_at_once(
    server: EmbeddedPostgres, admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgflow_starter.postgres.connections.prober.REFUSED_INTERVAL", 60.0)
    admin.execute("alter role guest nologin")
    with opened(make_conninfo(server.conninfo(), user="guest")) as db:
        db.revive()
        eventually(lambda: db.outage)
        admin.execute("alter role guest login")
        answered = threading.Event()
        db.doubt(answered.set)
        assert answered.wait(10)
        assert db.outage is None
