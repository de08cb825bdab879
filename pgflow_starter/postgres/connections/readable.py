"""Whether a connection string can be read at all, before anybody connects with it; and what it takes for one."""

from __future__ import annotations

import re

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import Conninfo

from pgflow_starter.errors import DatabaseError, SetupError

UNREADABLE = (
    "it cannot be read (and is not shown, for the password's sake): write 'host=... dbname=... user=...', "
    "values with spaces in single quotes, or 'postgresql://user@host/dbname', the characters @ / ? # % "
    "percent-encoded"
)

_SCHEME = re.compile(r"\s*((?:jdbc:)?[A-Za-z][A-Za-z0-9+.-]{0,40})://")
_NAME = re.compile(r"\w{1,40}", re.ASCII)
_QUOTED = re.compile(r"'(?:[^'\\]|\\.)*'")
_SECRET = re.compile(r"pass|pw|secret", re.IGNORECASE)
"""In the names that drivers and people have for a password."""

_NEEDLESS = "leave it out, nothing here needs it; under 'notify' let listen_conninfo= lead past the pooler"
_REMEDIES = {
    **dict.fromkeys(("pgbouncer", "prepared_statements", "statement_cache_size", "preparethreshold"), _NEEDLESS),
    **dict.fromkeys(("connection_limit", "max_connections", "pool_size"), "give start() the setting pool_size instead"),
    "schema": "write options=-csearch_path%3D... instead",
    "ssl": "write sslmode=require instead",
}
"""For options of other drivers and their tools, in lower case."""


def refuse_unreadable(conninfo: str) -> None:
    """Raise SetupError for a string that libpq cannot read. Shows nothing of it that may be a piece of the password."""
    try:
        conninfo_to_dict(conninfo)
    except psycopg.Error:
        raise SetupError(_foreign(conninfo) or UNREADABLE) from None


def of_no_use(error: SetupError) -> DatabaseError:
    """The same as what came of an attempt to connect, for good: another attempt reads the same string.

    libpq's own words would show the piece that it stumbled over, and that may be the password's.
    """
    return DatabaseError(f"connection string: {error}", error_type="ProgrammingError", connection_lost=True)


def _foreign(conninfo: str) -> str:
    """What a string that is good for some other driver has and libpq does not know; nothing where that is not sure."""
    scheme = _SCHEME.match(conninfo)
    if scheme is not None and scheme[1] not in ("postgresql", "postgres"):
        return f"its scheme {scheme[1]!r} is not libpq's: write 'postgresql://' and what follows as it is"
    if scheme is not None:
        options = conninfo.partition("?")[2]
        names = [part.partition("=")[0] for part in options.split("&")]
        sure = "@" not in options  # else the ? may be one of the password's
    else:
        options = conninfo
        names = re.findall(r"(?:^|\s)([^\s=]+)\s*=", _QUOTED.sub("''", conninfo))
        sure = True
    sure = sure and not _SECRET.search(options)  # else the name may be the password's second half
    known = [option.keyword.decode() for option in Conninfo.get_defaults()]
    unknown = [name for name in dict.fromkeys(names) if name not in known]
    if not sure or not all(map(_NAME.fullmatch, unknown)):
        return ""
    return "; ".join(f"libpq has no option {name!r} ({_remedy(name, known)})" for name in unknown)


def _remedy(name: str, known: list[str]) -> str:
    import difflib  # takes a while, and is hardly ever needed

    near = difflib.get_close_matches(name, known, n=1)
    return _REMEDIES.get(name.lower()) or (f"did you mean {near[0]!r}?" if near else "leave it out")
