"""A caller's own connection, to start runs inside its transaction."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus

from pgflow_starter.errors import DatabaseError, PgflowError
from pgflow_starter.postgres.client.calls import with_remedy
from pgflow_starter.postgres.client.driver_connection import driver_connection, tell_owner
from pgflow_starter.postgres.connections.connection import Connection
from pgflow_starter.postgres.connections.conninfo import Redactor
from pgflow_starter.postgres.connections.errors import translate

_SET_STRINGS = "select pg_catalog.set_config('standard_conforming_strings', %s, %s)"


@contextmanager
def callers_transaction(given: Any) -> Iterator[Connection]:
    """The connection, or the one in another library's object, in a form that our statements can use.

    Raises TypeError for none, PgflowError for one that gives text as bytes, DatabaseError for its errors.
    """
    connection = driver_connection(given)
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
    except DatabaseError:
        tell_owner(given)
        raise
    except psycopg.Error as error:
        tell_owner(given)
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
