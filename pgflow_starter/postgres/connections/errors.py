"""psycopg's exceptions as ours."""

from __future__ import annotations

from collections.abc import Callable

import psycopg

from pgflow_starter.core.text import one_line
from pgflow_starter.errors import DatabaseError
from pgflow_starter.postgres.connections.connection import FATAL

UNPREPARED = ("26000", "42P05")
"""SQLSTATEs of a prepared statement that is not there, or is there already: this is another session."""

# Without ending the session. 25006: a server that became read-only is as good as gone; another connection may find the
# new primary.
_LOST_STATES = ("08", "25006", *UNPREPARED)

# Features, statement names, what a statement says of tables and types, and internal errors: a session that knows them
# as they were before somebody changed them fails with these, and a fresh one does not. What is not there, or not
# allowed, every session looks up anew.
_STALE_STATES = ("0A", "26", "42", "XX")
_LOOKED_UP_STATES = ("42501", "42P01", "42883")

# The server's (English) words, and PgBouncer's; libpq hands over no SQLSTATE for a refused connection.
_CROWDED = (
    "too many clients already",
    "remaining connection slots are reserved",
    "too many connections for",
    "no more connections allowed",
)


def translate(error: BaseException, redact: Callable[[str], str]) -> DatabaseError:
    """The error of a statement or connection as a DatabaseError; SQLSTATE, driver class and a redacted message kept."""
    sqlstate = getattr(error, "sqlstate", None)
    diag = error.diag if isinstance(error, psycopg.Error) else None
    named = diag is not None and diag.constraint_name and diag.table_name
    return DatabaseError(
        redact(one_line(_message(error))) or type(error).__name__,
        sqlstate=sqlstate,
        error_type=type(error).__name__,
        connection_lost=_lost(error, sqlstate),
        quoting=diag is not None and diag.source_function == "exec_stmt_raise",  # PL/pgSQL's RAISE
        place=f"constraint {diag.constraint_name} of {diag.table_name}" if diag is not None and named else "",
    )


def stale(error: DatabaseError) -> bool:
    """Whether the session may be to blame, for what it remembers, and not the statement."""
    state = error.sqlstate or ""
    return state.startswith(_STALE_STATES) and state not in _LOOKED_UP_STATES


def crowded(error: BaseException) -> bool:
    """Whether the server answers, but has no connection to spare."""
    return getattr(error, "sqlstate", None) == "53300" or any(words in str(error) for words in _CROWDED)


def no_thread(error: RuntimeError) -> DatabaseError:
    """For a call that needed a thread where none was to be had: nothing was done, and it may go better later."""
    return DatabaseError(f"this process has no thread to spare for the database: {error}", error_type="NoThread")


def _message(error: BaseException) -> str:
    """The server's message, detail and hint, without the call stack that is its context; else the driver's words."""
    if not isinstance(error, psycopg.Error) or not error.diag.message_primary:
        return str(error)
    diag = error.diag
    detail = f": {diag.message_detail}" if diag.message_detail else ""
    return f"{diag.message_primary}{detail}" + (f" ({diag.message_hint})" if diag.message_hint else "")


def _lost(error: BaseException, sqlstate: str | None) -> bool:
    if not isinstance(error, psycopg.Error):
        return False
    if error.pgconn is not None:  # while connecting
        return True
    if sqlstate is not None:
        severity = error.diag.severity_nonlocalized or error.diag.severity
        return severity in FATAL or sqlstate.startswith(_LOST_STATES)
    return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
