"""One short-lived connection for set-up commands, its errors translated."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg

from pgflow_starter.errors import DatabaseError, SetupError
from pgflow_starter.postgres.connections.connection import CHECK_INTERVAL
from pgflow_starter.postgres.connections.conninfo import UNREADABLE, Redactor, connect_options, refuse_unreadable
from pgflow_starter.postgres.connections.errors import translate

Connection = psycopg.Connection[tuple[Any, ...]]

OWN_PATH = "set local search_path to pg_catalog, pg_temp"
"""For the rest of a transaction nothing is found by its bare name but what is PostgreSQL's.

Whoever may create functions or operators in a schema of the path could have them run by us else, as a superuser even:
one that fits the arguments better is taken before pg_catalog's. A statement without functions, and local: behind a
pooler the session is somebody else's afterwards.
"""

STANDARD_STRINGS = "set local standard_conforming_strings to on"
"""For the rest of a transaction a backslash within quotes is a backslash, whatever the role or the server has set."""

_NOTICE = """
select pg_catalog.set_config('client_connection_check_interval', %s, true)
where pg_catalog.current_setting('client_connection_check_interval', true) is not null
"""


@contextmanager
def session(conninfo: str, *, denied: str = "") -> Iterator[Connection]:
    """A connection in autocommit mode, closed at the end; an open transaction is rolled back.

    What it does is done in a `limited` transaction, or begins with OWN_PATH. `denied`: the remedy where a right is
    missing.

    Connecting takes 5 seconds at most for each host, unless the connection string says otherwise. Raises SetupError
    for a string that is none, DatabaseError for what the server or the network refuse, here and in the block.
    """
    refuse_unreadable(conninfo)
    try:
        with psycopg.connect(conninfo, **connect_options(conninfo)) as connection:
            yield connection
    except psycopg.Error as error:
        raise _failure(error, conninfo, denied) from None


@contextmanager
def limited(connection: Connection, seconds: int) -> Iterator[None]:
    """A transaction whose every statement may take so long, with OWN_PATH and STANDARD_STRINGS.

    Where we are killed the server ends it within seconds, as far as it can tell: what was locked is free again. All of
    it ends with the transaction: a pooler hands it to nobody.
    """
    with connection.transaction():
        connection.execute(OWN_PATH)
        connection.execute(STANDARD_STRINGS)
        connection.execute("select set_config('statement_timeout', %s, true)", [f"{seconds}s"])
        with suppress(psycopg.errors.InvalidParameterValue), connection.transaction():  # not every platform can
            connection.execute(_NOTICE, [f"{CHECK_INTERVAL:g}s"])
        yield
        # What was set for the transaction after a reset of ours would be marked as the session's own.
        connection.execute("reset all")


@contextmanager
def queue_lock(conninfo: str, queue: str) -> Iterator[Callable[[], None]]:
    """Hold pgmq's lock of a queue, on a connection of its own, until the yielded function is called or the block ends.

    What creates a queue or changes its notifications waits for it. The queue need not exist yet. Waits 10 seconds for
    the lock itself. Raises SetupError, DatabaseError.
    """
    with session(conninfo) as connection:
        connection.autocommit = False
        for setting in (OWN_PATH, STANDARD_STRINGS, "set local statement_timeout = '10s'"):
            connection.execute(setting)
        connection.execute("select pgmq.acquire_queue_lock(%s::text)", [queue])
        yield connection.rollback


def _failure(error: psycopg.Error, conninfo: str, denied: str) -> DatabaseError | SetupError:
    if error.sqlstate is None and _is_ambiguous(conninfo):
        return SetupError(f"the connection string: {UNREADABLE}")
    failure = translate(error, Redactor(conninfo))
    if failure.sqlstate == "42501" and denied:
        failure.args = (f"{failure}: {denied}",)
    return failure


def _is_ambiguous(conninfo: str) -> bool:
    """Whether libpq may have taken a piece of a password for a host or a port, which its messages name."""
    uri = re.match(r"\s*postgres(?:ql)?://(.*)", conninfo, re.DOTALL)
    return uri is not None and re.search(r"[@/?#].*@", uri[1].partition(":")[2], re.DOTALL) is not None
