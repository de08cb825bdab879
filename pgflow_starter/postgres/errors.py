"""psycopg's exceptions as ours."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
import psycopg_pool

from pgflow_starter.core.state import one_line
from pgflow_starter.errors import DatabaseError

# 25006: a server that became read-only is as good as gone; another connection may find the new primary.
_LOST_STATES = ("08", "57P01", "57P02", "57P03", "53300", "25006")


def translate(error: Exception, redact: Callable[[str], str]) -> DatabaseError:
    """The error of a statement or connection as a DatabaseError; SQLSTATE, driver class and a redacted message kept."""
    sqlstate = getattr(error, "sqlstate", None)
    return DatabaseError(
        redact(one_line(_message(error))) or type(error).__name__,
        sqlstate=sqlstate,
        error_type=type(error).__name__,
        connection_lost=_lost(error, sqlstate),
    )


def _message(error: Exception) -> str:
    """The server's message, detail and hint, without the call stack that is its context; else the driver's words."""
    if not isinstance(error, psycopg.Error) or not error.diag.message_primary:
        return str(error)
    diag = error.diag
    detail = f": {diag.message_detail}" if diag.message_detail else ""
    return f"{diag.message_primary}{detail}" + (f" ({diag.message_hint})" if diag.message_hint else "")


def _lost(error: Exception, sqlstate: str | None) -> bool:
    if isinstance(error, psycopg_pool.PoolTimeout):
        return False
    if isinstance(error, psycopg_pool.PoolClosed):
        return True
    if sqlstate is not None:
        return sqlstate.startswith(_LOST_STATES)
    return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)


@contextmanager
def translated(redact: Callable[[str], str]) -> Iterator[None]:
    """Around driver calls: what they raise comes out as DatabaseError."""
    try:
        yield
    except (psycopg.Error, OSError) as error:
        raise translate(error, redact) from error
