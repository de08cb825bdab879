"""One short-lived connection for set-up commands, its errors translated."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from pgflow_starter.errors import DatabaseError, SetupError
from pgflow_starter.postgres.conninfo import Redactor, connect_options
from pgflow_starter.postgres.errors import translate
from pgflow_starter.postgres.readable import UNREADABLE, refuse_unreadable

Connection = psycopg.Connection[tuple[Any, ...]]


@contextmanager
def session(conninfo: str) -> Iterator[Connection]:
    """A connection in autocommit mode, closed at the end; an open transaction is rolled back.

    Connecting takes 5 seconds at most for each host, unless the connection string says otherwise. Raises SetupError
    for a string that is none, DatabaseError for what the server or the network refuse, here and in the block.
    """
    refuse_unreadable(conninfo)
    try:
        with psycopg.connect(conninfo, **connect_options(conninfo)) as connection:
            yield connection
    except psycopg.Error as error:
        raise _failure(error, conninfo) from None


@contextmanager
def limited(connection: Connection, seconds: int) -> Iterator[None]:
    """A transaction whose every statement may take so long. The limit ends with it: a pooler hands it to nobody."""
    with connection.transaction():
        connection.execute("select set_config('statement_timeout', %s, true)", [f"{seconds}s"])
        yield


def _failure(error: psycopg.Error, conninfo: str) -> DatabaseError | SetupError:
    if error.sqlstate is None and _is_ambiguous(conninfo):
        return SetupError(f"the connection string: {UNREADABLE}")
    failure = translate(error, Redactor(conninfo))
    if failure.sqlstate == "42501":
        remedy = "connect as the database's owner, or as a role with CREATE on the database"
        failure.args = (f"{failure}: {remedy}",)
    return failure


def _is_ambiguous(conninfo: str) -> bool:
    """Whether libpq may have taken a piece of a password for a host or a port, which its messages name."""
    uri = re.match(r"\s*postgres(?:ql)?://(.*)", conninfo, re.DOTALL)
    return uri is not None and re.search(r"[@/?#].*@", uri[1].partition(":")[2], re.DOTALL) is not None
