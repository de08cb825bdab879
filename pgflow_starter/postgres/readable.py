"""Whether a connection string can be read at all, before anybody connects with it; and what it takes for one."""

from __future__ import annotations

import re
from urllib.parse import unquote

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import Conninfo

from pgflow_starter.errors import SetupError

UNREADABLE = (
    "it cannot be read (and is not shown, for the password's sake): write 'host=... dbname=... user=...', "
    "values with spaces in single quotes, or 'postgresql://user@host/dbname', the characters @ / ? # % "
    "percent-encoded"
)

_SCHEME = re.compile(r"\s*([A-Za-z][A-Za-z0-9+.:-]{0,40})://")
_SCHEMES = ("postgresql", "postgres")

_REMEDIES = {
    "pgbouncer": "leave it out, nothing here needs it; under signal_strategy='notify' listen_conninfo= then leads past "
    "the pooler",
    **dict.fromkeys(
        ("connection_limit", "max_connections", "pool_size"), "leave it out, and give start(...) the setting pool_size"
    ),
    "schema": "leave it out, or write options=-csearch_path%3D...",
    "ssl": "write sslmode=require",
}
"""For options of other drivers and their tools, in lower case."""


def refuse_unreadable(conninfo: str) -> None:
    """Raise SetupError for a string that libpq cannot read. Shows nothing of it that may be of the password."""
    try:
        conninfo_to_dict(conninfo)
    except psycopg.Error:
        raise SetupError(_foreign(conninfo) or UNREADABLE) from None


def _foreign(conninfo: str) -> str:
    """What is wrong with a URI that is good for somebody else; nothing where it is not that, or cannot be told."""
    scheme = _SCHEME.match(conninfo)
    if scheme is None:
        return ""
    if scheme[1] not in _SCHEMES:
        return f"its scheme {scheme[1]!r} is not libpq's: write 'postgresql://' and the same after it"
    _, _, query = conninfo.partition("?")
    names = [unquote(part.partition("=")[0]) for part in query.split("&")]
    # A ? that is not percent-encoded in a password begins no options, and an @ comes after it.
    if not query or "@" in query or not all(re.fullmatch(r"\w{1,40}", name) for name in names):
        return ""
    known = {option.keyword.decode() for option in Conninfo.get_defaults()} | {"ssl"}
    unknown = [name for name in names if name not in known]
    told = "; ".join(f"{name!r}: {_REMEDIES.get(name.lower(), 'leave it out')}" for name in dict.fromkeys(unknown))
    return told and f"libpq has no such options in a URI: {told}"
