"""Whether a connection string can be read at all, before anybody connects with it."""

from __future__ import annotations

import psycopg
from psycopg.conninfo import conninfo_to_dict

from pgflow_starter.errors import SetupError

UNREADABLE = (
    "it cannot be read (and is not shown, for the password's sake): write 'host=... dbname=... user=...', "
    "values with spaces in single quotes, or 'postgresql://user@host/dbname', the characters @ / ? # % "
    "percent-encoded"
)


def refuse_unreadable(conninfo: str) -> None:
    """Raise SetupError for a string that libpq cannot read. Shows nothing of it: any piece may be the password's."""
    try:
        conninfo_to_dict(conninfo)
    except psycopg.Error:
        raise SetupError(UNREADABLE) from None
