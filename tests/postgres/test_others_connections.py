"""`connection=` with SQLAlchemy's and Django's own objects: the run is part of what they have begun."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import psycopg
import pytest
import sqlalchemy
from sqlalchemy.orm import Session, scoped_session, sessionmaker
from sqlalchemy.pool import NullPool

import pgflow_starter as pgflow
from tests.support.programs import finished
from tests.support.starters import echo_job

MARK = sqlalchemy.text("insert into marks values (1)")


@pytest.fixture
def engine(database: str) -> sqlalchemy.Engine:
    """One whose connections end when they are given back."""
    with psycopg.connect(database) as connection:
        connection.execute("create table marks (id int)")
    return sqlalchemy.create_engine(
        "postgresql+psycopg://", creator=lambda: psycopg.connect(database), poolclass=NullPool
    )


@contextmanager
def scoped(engine: sqlalchemy.Engine) -> Iterator[Any]:
    sessions = scoped_session(sessionmaker(engine))
    yield sessions
    sessions.remove()


@contextmanager
def pooled(engine: sqlalchemy.Engine) -> Iterator[Any]:
    connection = engine.raw_connection()
    yield connection
    connection.close()


OBJECTS: dict[str, Callable[[sqlalchemy.Engine], AbstractContextManager[Any]]] = {
    "Session": Session,
    "scoped_session": scoped,
    "Connection": lambda engine: engine.connect(),
    "raw connection": pooled,
}


def there(database: str) -> tuple[int, int]:
    """How many runs there are, and how many marks of the caller's own."""
    with psycopg.connect(database) as connection:
        row = connection.execute("select (select count(*) from pgflow.runs), (select count(*) from marks)").fetchone()
    assert row is not None
    return row


@pytest.mark.parametrize("opened", OBJECTS.values(), ids=OBJECTS)
@pytest.mark.parametrize("first", ["mark", "run"])
def test_a_run_is_committed_and_rolled_back_with_sqlalchemy_s_transaction(
    database: str, engine: sqlalchemy.Engine, opened: Callable[..., Any], first: str
) -> None:
    job = echo_job()
    with pgflow.PgflowClient(database) as client, opened(engine) as theirs:

        def mark() -> None:
            if opened is pooled:
                theirs.cursor().execute(MARK.text)
            else:
                theirs.execute(MARK)

        def both() -> None:
            if first == "mark":
                mark()
            client.enqueue(job, {"n": 1}, connection=theirs)
            if first == "run":
                mark()

        both()
        theirs.rollback()
        assert there(database) == (0, 0)
        both()
        assert there(database) == (0, 0)
        theirs.commit()
        assert there(database) == (1, 1)
        client.enqueue(job, 2, connection=theirs)  # nothing else in this transaction
        theirs.commit()
        assert there(database) == (2, 1)


def test_within_sqlalchemy_s_savepoint_the_run_is_the_savepoint_s(database: str, engine: sqlalchemy.Engine) -> None:
    job = echo_job()
    with pgflow.PgflowClient(database) as client, Session(engine) as session:
        session.execute(MARK)
        with session.begin_nested() as inner:
            client.enqueue(job, 1, connection=session)
            inner.rollback()
        with pytest.raises(pgflow.UnknownFlowError):
            client.start_flow("nowhere", 1, connection=session)
        session.commit()
    assert there(database) == (0, 1)


def test_coroutines_give_the_session_of_their_own_thread(database: str, engine: sqlalchemy.Engine) -> None:
    async def enqueue(client: pgflow.PgflowClient, sessions: Any) -> None:
        await client.aio.enqueue(echo_job(), 1, connection=sessions)

    with pgflow.PgflowClient(database) as client, scoped(engine) as sessions:
        asyncio.run(enqueue(client, sessions))
        sessions.rollback()
        asyncio.run(enqueue(client, sessions))
        sessions.commit()
    assert there(database) == (1, 0)


def test_another_driver_beneath_is_refused_with_what_it_is(database: str, engine: sqlalchemy.Engine) -> None:
    told = r"got sqlalchemy\.engine\.base\.Connection over sqlite3\.Connection: pass one whose driver is psycopg 3"
    with pgflow.PgflowClient(database) as client:
        other = sqlalchemy.create_engine("sqlite://", poolclass=NullPool)
        with other.connect() as theirs, pytest.raises(TypeError, match=told):
            client.enqueue(echo_job(), 1, connection=theirs)
        with pytest.raises(TypeError, match=r"got sqlalchemy\.engine\.base\.Engine: pass what `with engine\.begin"):
            client.enqueue(echo_job(), 1, connection=engine)


def test_a_session_that_cannot_connect_or_has_failed_is_told_as_ours(database: str, engine: sqlalchemy.Engine) -> None:
    away = sqlalchemy.create_engine("postgresql+psycopg://127.0.0.1:1/shop", poolclass=NullPool)
    with pgflow.PgflowClient(database) as client:
        with Session(away) as session, pytest.raises(pgflow.DatabaseError, match="the database cannot be reached"):
            client.enqueue(echo_job(), 1, connection=session)
        with engine.connect() as theirs:
            theirs.close()
            with pytest.raises(pgflow.PgflowError, match=r"cannot give its connection: .*ResourceClosedError"):
                client.enqueue(echo_job(), 1, connection=theirs)


@pytest.mark.parametrize("opened", OBJECTS.values(), ids=OBJECTS)
@pytest.mark.parametrize("asynchronous", [False, True], ids=["plain", "aio"])
def test_sqlalchemy_hears_of_a_connection_that_the_server_has_ended(
    database: str, opened: Callable[..., Any], asynchronous: bool
) -> None:
    engine = sqlalchemy.create_engine(
        "postgresql+psycopg://", creator=lambda: psycopg.connect(database), pool_size=1, max_overflow=0
    )
    job = echo_job()

    async def enqueue(client: pgflow.PgflowClient, theirs: Any) -> None:
        await client.aio.enqueue(job, 1, connection=theirs)

    def cut_off(client: pgflow.PgflowClient) -> None:
        with opened(engine) as theirs:
            client.enqueue(job, 1, connection=theirs)
            ended(database)
            if asynchronous:
                asyncio.run(enqueue(client, theirs))
            else:
                client.enqueue(job, 1, connection=theirs)

    with pgflow.PgflowClient(database) as client:
        with pytest.raises(pgflow.DatabaseError, match="the database cannot be reached"):
            cut_off(client)
        with opened(engine) as theirs:
            client.enqueue(job, 1, connection=theirs)
            theirs.commit()
    engine.dispose()


def ended(database: str) -> None:
    """All sessions there that are in a transaction."""
    with psycopg.connect(database) as other:
        other.execute(
            "select pg_terminate_backend(pid, 10000) from pg_stat_activity"
            " where datname = current_database() and state = 'idle in transaction' and pid <> pg_backend_pid()"
        )


DJANGO = """
import asyncio, sys
import django
from django.conf import settings
from psycopg.conninfo import conninfo_to_dict

dsn = sys.argv[1]
options = conninfo_to_dict(dsn)
postgres = {"ENGINE": "django.db.backends.postgresql", "NAME": options.pop("dbname"), "OPTIONS": options}
away = {**postgres, "OPTIONS": {"host": "127.0.0.1", "port": 1}}
lite = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
settings.configure(DATABASES={"default": postgres, "away": away, "lite": lite}, USE_TZ=True)
django.setup()

from django.db import close_old_connections, connection, connections, transaction

import pgflow_starter as pgflow

@pgflow.job("echo")
def echo(message, ctx):
    return message

def runs():
    with connection.cursor() as cursor:
        cursor.execute("select count(*) from pgflow.runs")
        return cursor.fetchone()[0]

def refused(error, given, call=None):
    try:
        (call or client.enqueue)(echo, 1, connection=given)
    except error as told:
        return str(told)
    raise AssertionError("it was taken")

with pgflow.PgflowClient(dsn) as client:
    # Not open yet, and outside atomic(): committed at once.
    run = client.enqueue(echo, {"n": 1}, connection=connection)
    assert (run.input, run.started_at.utcoffset().seconds) == ({"n": 1}, 0)
    connection.close()
    for given in (connection, connections["default"]):
        before = runs()
        with transaction.atomic():
            client.enqueue(echo, 2, connection=given)
            assert runs() == before + 1
            transaction.set_rollback(True)
        assert runs() == before
        with transaction.atomic():
            try:
                with transaction.atomic():
                    client.enqueue(echo, 3, connection=given)
                    raise LookupError
            except LookupError:
                client.enqueue(echo, 4, connection=given)
            # An error of ours leaves Django's transaction as it was.
            try:
                client.start_flow("nowhere", 1, connection=given)
            except pgflow.UnknownFlowError:
                pass
        assert runs() == before + 1
    # The server ended it meanwhile: with health checks the next use finds out.
    connections["default"].health_check_enabled = True
    with connections["default"].cursor() as cursor:
        cursor.execute("select pg_backend_pid()")
        pid = cursor.fetchone()[0]
    import psycopg
    with psycopg.connect(dsn) as other:
        other.execute("select pg_terminate_backend(%s, 10000)", (pid,))
    connections["default"].health_check_done = False
    client.enqueue(echo, 5, connection=connection)
    connection.close()
    # Without, it finds out between two requests after an error, ours among them.
    connections["default"].settings_dict["CONN_MAX_AGE"] = None
    with connection.cursor() as cursor:
        cursor.execute("select pg_backend_pid()")
        pid = cursor.fetchone()[0]
    with psycopg.connect(dsn) as other:
        other.execute("select pg_terminate_backend(%s, 10000)", (pid,))
    refused(pgflow.DatabaseError, connection)
    close_old_connections()
    client.enqueue(echo, 6, connection=connection)
    connection.close()

    print(refused(TypeError, connections["lite"]))
    print(refused(pgflow.DatabaseError, connections["away"]))
    async def in_a_coroutine():
        try:
            await client.aio.enqueue(echo, 6, connection=connection)
        except pgflow.PgflowError as error:
            print(error)
    asyncio.run(in_a_coroutine())
connections.close_all()
"""


def test_django_s_connections_are_taken_within_atomic_and_without(database: str) -> None:
    done = finished("-W", "error", "-c", DJANGO, database)
    assert done.returncode == 0, done.stderr
    other, away, coroutine = done.stdout.splitlines()
    assert other == (
        "connection must be a psycopg.Connection or have one beneath, got"
        " django.db.backends.sqlite3.base.DatabaseWrapper over sqlite3.Connection: pass one whose driver is psycopg 3"
        " (SQLAlchemy: an engine of postgresql+psycopg://; Django: its postgresql backend, with psycopg installed)"
    )
    assert "the database cannot be reached" in away
    assert coroutine == (
        "django.utils.connection.ConnectionProxy cannot give its connection:"
        " django.core.exceptions.SynchronousOnlyOperation"
    )
