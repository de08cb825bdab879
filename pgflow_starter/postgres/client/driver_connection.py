"""`driver_connection`: the psycopg connection in what a caller gives as one, be it SQLAlchemy's or Django's.

All by the names of their classes, so that nothing is imported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, TypeVar

import psycopg

from pgflow_starter.errors import PgflowError
from pgflow_starter.postgres.client.calls import with_remedy
from pgflow_starter.postgres.connections.conninfo import Redactor
from pgflow_starter.postgres.connections.errors import translate

T = TypeVar("T")


def driver_connection(given: Any) -> psycopg.Connection[Any]:
    """The connection itself; of another library's object the one that it works with now, in its open transaction.

    On the caller's thread and in its context, by which some libraries choose the connection; blocks where theirs has to
    connect first. Raises TypeError for what is or has no psycopg.Connection, PgflowError where theirs cannot be had.
    """
    if isinstance(given, psycopg.Connection):
        return given
    beneath = _known(_BENEATH, given)
    if beneath is None:
        raise TypeError(_refusal(given))
    try:
        found = beneath(given)
    except Exception as error:
        raise _not_to_be_had(given, error) from error
    if isinstance(found, psycopg.Connection):
        return found
    told = f"connection must be a psycopg.Connection or have one beneath, got {_name(given)} over {_name(found)}"
    instead = _ASYNC if _known(_INSTEAD, found) is _ASYNC else _ON_PSYCOPG
    raise TypeError(f"{told}: pass {instead}")


def tell_owner(given: Any) -> None:
    """After an error on its connection: the library whose object it is looks whether that is still good.

    As it does after errors of its own; else it would lend one that the server has ended again and again.
    """
    tell = _known(_TOLD, given)
    if tell is not None:
        with suppress(Exception):  # the error is what the caller has to hear of
            tell(given)


def _tell_django(connection: Any) -> None:
    connection.errors_occurred = True


def _tell_session(session: Any) -> None:
    _tell_connection(session.connection())


def _tell_connection(connection: Any) -> None:
    if connection.connection.driver_connection.closed:
        connection.invalidate()


def _tell_pooled(connection: Any) -> None:
    if connection.driver_connection.closed:
        connection.invalidate()


def _of_django(connection: Any) -> object:
    """As its cursors get it: outside atomic() it may not be open yet, or not any more."""
    connection.close_if_health_check_failed()
    if connection.connection is None:
        connection.ensure_connection()
    return connection.connection


def _of_session(session: Any) -> object:
    return _of_connection(session.connection())


def _of_connection(connection: Any) -> object:
    if not connection.in_transaction():
        connection.begin()  # as its first statement does: else its commit() would not do a thing
    return _of_pooled(connection.connection)


def _of_pooled(connection: Any) -> object:
    return connection.driver_connection


_BENEATH: Mapping[tuple[str, str], Callable[[Any], object]] = {
    ("django", "ConnectionProxy"): _of_django,
    ("django", "BaseDatabaseWrapper"): _of_django,
    ("sqlalchemy", "Session"): _of_session,
    ("sqlalchemy", "scoped_session"): _of_session,
    ("sqlalchemy", "Connection"): _of_connection,
    ("sqlalchemy", "PoolProxiedConnection"): _of_pooled,
}

_TOLD: Mapping[tuple[str, str], Callable[[Any], None]] = {
    ("django", "ConnectionProxy"): _tell_django,
    ("django", "BaseDatabaseWrapper"): _tell_django,
    ("sqlalchemy", "Session"): _tell_session,
    ("sqlalchemy", "scoped_session"): _tell_session,
    ("sqlalchemy", "Connection"): _tell_connection,
    ("sqlalchemy", "PoolProxiedConnection"): _tell_pooled,
}

_ASYNC = (
    "a psycopg.Connection that is not asyncio's; or none, and a run_id= or key= of your own, by which the call can be"
    " repeated, once the transaction has committed"
)

_ON_PSYCOPG = (
    "one whose driver is psycopg 3 (SQLAlchemy: an engine of postgresql+psycopg://; Django: its postgresql backend,"
    " with psycopg installed)"
)

_INSTEAD = {
    ("sqlalchemy", "Engine"): "what `with engine.begin() as ...` gives",
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


def _known(named: Mapping[tuple[str, str], T], given: object) -> T | None:
    """What is said of its class, or of the nearest of those that it derives from."""
    names = ((base.__module__.partition(".")[0], base.__name__) for base in type(given).__mro__)
    return next((named[name] for name in names if name in named), None)


def _refusal(given: object) -> str:
    """The message for what has no psycopg.Connection. Shows nothing of it but its class."""
    told = f"connection must be a psycopg.Connection, got {_name(given)}"
    instead = _known(_INSTEAD, given)
    return f"{told}: pass {instead}" if instead else told


def _not_to_be_had(given: object, error: Exception) -> PgflowError:
    """What another library raised may quote anything: it is the cause, and not shown, unless it is the driver's."""
    drivers = error if isinstance(error, psycopg.Error) else error.__cause__
    if isinstance(drivers, psycopg.Error):
        return with_remedy(translate(drivers, Redactor()))
    return PgflowError(f"{_name(given)} cannot give its connection: {_name(error)}")


def _name(given: object) -> str:
    return f"{type(given).__module__}.{type(given).__qualname__}"
