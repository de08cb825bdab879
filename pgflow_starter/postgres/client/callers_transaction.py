"""A caller's own psycopg connection, to start runs inside its transaction."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus

from pgflow_starter.errors import PgflowError
from pgflow_starter.postgres.client.calls import with_remedy
from pgflow_starter.postgres.connections.connection import Connection
from pgflow_starter.postgres.connections.conninfo import Redactor
from pgflow_starter.postgres.connections.errors import translate

_SET_STRINGS = "select pg_catalog.set_config('standard_conforming_strings', %s, %s)"

# By its class's name, so that nothing is imported: what to pass instead.
_ASYNC = (
    "a psycopg.Connection that is not asyncio's; or none, and a run_id= or key= of your own, by which the call can be"
    " repeated, once the transaction has committed"
)
_OF_SQLALCHEMY = "connection().connection.driver_connection of it, with an engine of postgresql+psycopg://"

_INSTEAD = {
    ("django", "ConnectionProxy"): "its attribute connection, within transaction.atomic()",
    ("django", "BaseDatabaseWrapper"): "its attribute connection, within transaction.atomic()",
    ("sqlalchemy", "Session"): _OF_SQLALCHEMY,
    ("sqlalchemy", "scoped_session"): _OF_SQLALCHEMY,
    ("sqlalchemy", "Connection"): "connection.driver_connection of it, with an engine of postgresql+psycopg://",
    ("sqlalchemy", "PoolProxiedConnection"): "its attribute driver_connection, with an engine of postgresql+psycopg://",
    ("sqlalchemy", "Engine"): "connection.driver_connection of what `with engine.begin() as ...` gives",
    ("sqlalchemy", "AsyncSession"): _ASYNC,
    ("sqlalchemy", "async_scoped_session"): _ASYNC,
    ("sqlalchemy", "AsyncConnection"): _ASYNC,
    ("sqlalchemy", "AsyncEngine"): _ASYNC,
    ("psycopg", "AsyncConnection"): _ASYNC,
    ("psycopg", "Cursor"): "its attribute connection",
    ("psycopg_pool", "ConnectionPool"): "what `with pool.connection() as ...` gives",
    ("psycopg_pool", "AsyncConnectionPool"): _ASYNC,
    ("psycopg2", "connection"): "one that psycopg.connect made: this is psycopg2's, the version before",
    ("asyncpg", "Connection"): _ASYNC,
    ("builtins", "str"): "one that is open: psycopg.connect(...)",
}


@contextmanager
def callers_transaction(connection: Any) -> Iterator[Connection]:
    """The connection in a form that our statements can use.

    Raises TypeError for none, PgflowError for one that gives text as bytes, DatabaseError for its errors.
    """
    if not isinstance(connection, psycopg.Connection):
        raise TypeError(_refusal(connection))
    if connection.info.parameter_status("client_encoding") == "SQL_ASCII":
        msg = "the connection's client_encoding is SQL_ASCII, which has no text: SET client_encoding TO 'UTF8' on it"
        raise PgflowError(msg)
    redact = Redactor()
    try:
        # fails, too, when the connection is closed
        redact = Redactor(
            connection.info.dsn, f"password='{password}'" if (password := connection.info.password) else ""
        )
        with psycopg.Cursor(connection, row_factory=psycopg.rows.tuple_row) as cursor:
            if not connection.autocommit and connection.info.transaction_status == TransactionStatus.IDLE:
                # Opens the caller's transaction: a transaction() block on an idle connection would commit by itself.
                cursor.execute("select")
            with _standard_strings(connection, cursor):
                yield _OnCursors(connection)  # type: ignore[misc] # has what we call
    except psycopg.Error as error:
        raise with_remedy(translate(error, redact)) from error


@contextmanager
def _standard_strings(connection: Any, cursor: Any) -> Iterator[None]:
    """Backslashes within quotes are backslashes, on which pgmq's functions rely; then again what they were."""
    if connection.info.parameter_status("standard_conforming_strings") != "off":
        yield
        return
    local = connection.info.transaction_status != TransactionStatus.IDLE
    cursor.execute(_SET_STRINGS, ("on", local))
    try:
        yield
    finally:
        # A transaction that failed takes it along.
        if connection.info.transaction_status in (TransactionStatus.IDLE, TransactionStatus.INTRANS):
            cursor.execute(_SET_STRINGS, ("off", local))


class _OnCursors:
    """A caller's connection, used by cursors of ours whatever its own factories make: one a statement."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self.info = connection.info
        self.pipeline = connection.pipeline
        self.transaction = connection.transaction

    def execute(self, query: Any, parameters: Any = None, **how: Any) -> Any:
        cursor: Any = psycopg.Cursor(self._connection, row_factory=psycopg.rows.tuple_row)
        return cursor.execute(query, parameters, **how)


def _refusal(connection: object) -> str:
    """The message for what is no psycopg.Connection. Shows nothing of it but its class."""
    kind = type(connection)
    names = [(base.__module__.partition(".")[0], base.__name__) for base in kind.__mro__]
    instead = next((_INSTEAD[name] for name in names if name in _INSTEAD), "")
    told = f"connection must be a psycopg.Connection, got {kind.__module__}.{kind.__qualname__}"
    return f"{told}: pass {instead}" if instead else told
