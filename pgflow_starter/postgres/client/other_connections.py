"""What is given for a `psycopg.Connection` and is none: known by its class's name, and what to pass instead."""

from __future__ import annotations

_ASYNC = "a psycopg.Connection that is not asyncio's"
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


def refusal(connection: object) -> str:
    """The message. Shows nothing of what was given but its class."""
    kind = type(connection)
    names = [(base.__module__.partition(".")[0], base.__name__) for base in kind.__mro__]
    instead = next((_INSTEAD[name] for name in names if name in _INSTEAD), "")
    told = f"connection must be a psycopg.Connection, got {kind.__module__}.{kind.__qualname__}"
    return f"{told}: pass {instead}" if instead else told
