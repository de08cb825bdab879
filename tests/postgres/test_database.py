"""The pool behind one probe: errors as ours, cancelling, and few connection attempts."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack
from itertools import count

import psycopg
import pytest

from pgflow_starter.clock import SystemClock
from pgflow_starter.errors import DatabaseError
from pgflow_starter.postgres.connections.canceller import Canceller
from pgflow_starter.postgres.connections.connection import Session
from pgflow_starter.postgres.connections.database import Database
from pgflow_starter.postgres.connections.pool import NAME
from pgflow_starter.postgres.connections.time_limits import TimeLimit
from pgflow_starter.threads.interrupt_scope import InterruptScope
from tests.support.database import opened
from tests.support.threads import interrupt
from tests.support.waiting import eventually


@pytest.mark.parametrize(
    ("statement", "sqlstate", "error_type"),
    [
        ("select nothing.at_all()", "3F000", "InvalidSchemaName"),
        ("select * from not_there", "42P01", "UndefinedTable"),
        ("select not_there()", "42883", "UndefinedFunction"),
        ("select 1 / 0", "22012", "DivisionByZero"),
        ("do $$ begin raise exception 'no' using hint = 'try that'; end $$", "P0001", "RaiseException"),
        ("select %s", None, "ProgrammingError"),
    ],
)
def test_a_statement_that_fails_is_told_with_its_sqlstate_and_the_connection_is_kept(
    empty_database: str, statement: str, sqlstate: str | None, error_type: str
) -> None:
    with opened(empty_database, pool_size=1) as db:
        parameters = () if "%s" in statement else None
        with pytest.raises(DatabaseError) as caught, db.connection() as conn:
            conn.execute(statement, parameters)
        assert (caught.value.sqlstate, caught.value.error_type) == (sqlstate, error_type)
        assert not caught.value.connection_lost
        with db.connection() as conn:
            assert conn.execute("select 1").fetchone() == (1,)


def test_a_hint_is_part_of_the_message(empty_database: str) -> None:
    with opened(empty_database) as db, pytest.raises(DatabaseError, match="try that"), db.connection() as conn:
        conn.execute("do $$ begin raise exception 'no' using hint = 'try that'; end $$")


def test_a_scope_interrupts_the_statement_that_runs(empty_database: str) -> None:
    scope = InterruptScope()
    errors: list[DatabaseError] = []
    with opened(empty_database, pool_size=1) as db:

        def hang() -> None:
            try:
                with db.connection(scope) as conn:
                    conn.execute("select pg_sleep(60)")
            except DatabaseError as error:
                errors.append(error)

        thread = threading.Thread(target=hang)
        thread.start()
        with opened(empty_database) as other:
            eventually(lambda: _sleeping(other))
        interrupt(scope)
        thread.join(10)
        assert errors[0].sqlstate == "57014"
        with db.connection() as conn:
            assert conn.execute("select 1").fetchone() == (1,)


def test_an_exhausted_pool_is_an_error_that_says_so(empty_database: str) -> None:
    with opened(empty_database, pool_size=1, patience=0.2) as db, db.connection():
        with pytest.raises(DatabaseError) as caught, db.connection():
            pass
        assert caught.value.error_type == "PoolTimeout"
        assert not caught.value.connection_lost


def test_while_the_database_is_away_however_many_wait_the_probe_alone_connects() -> None:
    with _refusing() as (conninfo, attempts), opened(conninfo) as db:
        errors: list[DatabaseError] = []

        def ask() -> None:
            for _ in range(3):
                try:
                    with db.connection():
                        pass
                except DatabaseError as error:
                    errors.append(error)

        threads = [threading.Thread(target=ask) for _ in range(50)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert len(errors) == 150
        assert all(error.connection_lost for error in errors)
        assert db.outage is not None
        assert attempts() <= 5  # in some 1.5 s


def test_hurrying_ends_every_wait(empty_database: str) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        conninfo = f"host=127.0.0.1 port={silent.getsockname()[1]} connect_timeout=2"
        db = Database(conninfo, pool_size=1, clock=SystemClock())
        errors: list[DatabaseError] = []
        asking = threading.Event()

        def ask() -> None:
            asking.set()
            try:
                with db.connection():
                    pass
            except DatabaseError as error:
                errors.append(error)

        thread = threading.Thread(target=ask)
        thread.start()
        assert asking.wait(5)
        db.hurry()
        thread.join(db.patience / 2)
        assert not thread.is_alive()
        assert errors
        db.close()


def _sleeping(db: Database) -> bool:
    with db.connection() as conn:
        return (
            conn.execute(
                "select from pg_stat_activity where datname = current_database() and wait_event = 'PgSleep'"
            ).fetchone()
            is not None
        )


class _refusing:  # noqa: N801 - reads as the context manager that it is
    """A server that takes connections and drops them, counting."""

    def __enter__(self) -> tuple[str, Callable[[], int]]:
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self._socket.listen()
        self._count = 0
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()
        return f"host=127.0.0.1 port={self._socket.getsockname()[1]}", lambda: self._count

    def __exit__(self, *_: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(5)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self._count += 1
            connection.close()


def test_statements_are_prepared_until_that_turns_out_not_to_work(empty_database: str) -> None:
    prepared = "select count(*) from pg_prepared_statements"
    with opened(empty_database, pool_size=1) as db:
        with db.connection() as conn:
            for _ in range(4):
                conn.execute("select 1")
            assert conn.execute(prepared).fetchone() == (1,)
            conn.execute("do $$ begin execute 'deallocate all'; end $$")  # as if from now on it were another session
        with pytest.raises(DatabaseError) as caught, db.connection() as conn:
            conn.execute("select 1")
        assert caught.value.connection_lost
        with db.connection() as conn:
            for _ in range(4):
                conn.execute("select 1")
            assert conn.execute(prepared).fetchone() == (0,)


def test_a_request_to_interrupt_that_comes_too_late_does_not_meet_who_has_the_connection_next(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    scope, asked, over, sent = InterruptScope(), threading.Event(), threading.Event(), []
    cancel = Canceller.cancel

    def late(canceller: Canceller, limit: TimeLimit) -> None:
        asked.set()
        assert over.wait(10)
        cancel(canceller, limit)

    monkeypatch.setattr(Canceller, "cancel", late)
    monkeypatch.setattr(psycopg.Connection, "cancel_safe", lambda *_, **__: sent.append(1))
    with opened(database, pool_size=1) as db:
        asking = threading.Thread(target=interrupt, args=(scope,))
        with db.connection(scope) as conn:
            asking.start()
            assert asked.wait(10)
            conn.execute("select 1")
        with db.connection() as conn:
            over.set()
            asking.join(10)
            conn.execute("select 1")
    assert not sent


def test_the_end_of_a_block_waits_for_a_request_that_is_on_its_way(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    scope, sending, arrive = InterruptScope(), threading.Event(), threading.Event()
    order: list[str] = []

    def cancel_safe(*_: object, **__: object) -> None:
        sending.set()
        assert arrive.wait(10)
        order.append("arrived")

    with opened(database, pool_size=1) as db:
        monkeypatch.setattr(psycopg.Connection, "cancel_safe", cancel_safe)
        canceller = threading.Thread(target=interrupt, args=(scope,))

        def use() -> None:
            with db.connection(scope) as conn:
                canceller.start()
                assert sending.wait(10)
                conn.execute("select 1")
            order.append("over")

        user = threading.Thread(target=use)
        user.start()
        assert sending.wait(10)
        arrive.set()
        user.join(10)
        canceller.join(10)
    assert order == ["arrived", "over"]


@pytest.mark.parametrize("started", [0, 1])
def test_where_there_is_no_thread_for_a_pool_that_is_said_and_there_is_one_later(
    empty_database: str, started: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers, start = count(), threading.Thread.start

    def none_left(thread: threading.Thread) -> None:
        if thread.name.startswith(NAME) and next(numbers) >= started:
            raise RuntimeError("can't start new thread")
        start(thread)

    with opened(empty_database) as db:
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", none_left)
            with pytest.raises(DatabaseError, match="no thread to spare"), db.connection():
                pass
        with db.connection() as conn:
            assert conn.execute("select 1").fetchone() == (1,)


def test_what_is_wrong_with_us_and_not_with_the_database_is_told_once_until_it_goes_well(
    empty_database: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    attempts = count()

    def fail(*_: object) -> None:
        next(attempts)
        raise TypeError("no such luck")

    with opened(empty_database, pool_size=2) as db, ExitStack() as in_use:
        for _ in range(2):
            with monkeypatch.context() as patched:
                patched.setattr(Session, "set_up", fail)
                enough = next(attempts) + 3
                while next(attempts) < enough:
                    with pytest.raises(DatabaseError, match="no connection came free"), db.connection(patience=0.1):
                        pass
            in_use.enter_context(db.connection())
    told = [r.getMessage() for r in caplog.records if r.name == "pgflow_starter.database"]
    assert told == ["connecting failed: TypeError: no such luck"] * 2
