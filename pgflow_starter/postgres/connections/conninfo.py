"""Connection strings: whether they can be read, the options that every connection gets, passwords kept out of texts."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, unquote

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import Conninfo

from pgflow_starter.errors import DatabaseError, SetupError

CONNECT_TIMEOUT = 5
"""Seconds that one connection attempt may take, where the connection string does not say."""

# Half-open connections: a peer that is gone is noticed within about 15 s instead of hours.
_DEFAULTS: dict[str, Any] = {
    "connect_timeout": CONNECT_TIMEOUT,
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 3,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
    "fallback_application_name": "pgflow_starter",
}
_MILLISECONDS = 1000
SHORT = 1
"""Characters up to which a secret is not looked for in a text."""

# The boundary, for else a long word is looked through from each of its letters on.
_IN_URI = re.compile(r"(\b\w+://[^\s:/@]*):[^\s@/]*@")
_IN_DSN = re.compile(r"(\b(?:ssl)?password\s*=\s*)('(?:[^'\\]|\\.)*'|[^\s'&]+)", re.IGNORECASE)

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


def connect_options(conninfo: str) -> dict[str, Any]:
    """The keyword arguments for a connection to `conninfo`: what the string does not set itself.

    And the encoding, whatever it says: what handlers return must not depend on that of a terminal.
    """
    try:
        given = conninfo_to_dict(conninfo)
    except psycopg.Error:
        given = {}  # connecting will say what is wrong with it
    options = {k: v for k, v in _DEFAULTS.items() if k not in given}
    return {**options, "client_encoding": "utf8", "autocommit": True, "prepare_threshold": None}


def conninfo_of(parameters: Mapping[str, Any]) -> str:
    """What psycopg would connect with as a connection string: those of the parameters that libpq knows, but for None.

    Raises SetupError, showing nothing of them, where libpq cannot read what comes of it.
    """
    known = {option.keyword.decode() for option in Conninfo.get_defaults()}
    try:
        return make_conninfo("", **{name: parameters[name] for name in parameters if name in known})
    except psycopg.Error:
        raise SetupError(UNREADABLE) from None


def answer_limit(conninfo: str) -> float:
    """Seconds that we wait for the server at most: the string's `tcp_user_timeout`, else 15; inf for 0, as in TCP."""
    try:
        given = conninfo_to_dict(conninfo).get("tcp_user_timeout", _DEFAULTS["tcp_user_timeout"])
        return int(given) / _MILLISECONDS or math.inf
    except (psycopg.Error, ValueError, TypeError):
        return _DEFAULTS["tcp_user_timeout"] / _MILLISECONDS  # type: ignore[no-any-return] # an int there


class Redactor:
    """Replaces the passwords of connection strings wherever they occur in a text. Immutable, thread-safe.

    One of a single character only within a connection string: in a text its stars would spell it out.
    """

    def __init__(self, *conninfos: str | None) -> None:
        secrets: set[str] = set()
        for conninfo in conninfos:
            secrets.update(_passwords(conninfo or ""))
        forms = {form for s in secrets if len(s) > SHORT for form in (s, quote(s, safe=""), quote(s))}
        # the longest first: one secret may hold another
        self._secrets = sorted(forms, key=len, reverse=True)
        self._short = sorted(f":{s}@" for s in secrets if 0 < len(s) <= SHORT)

    def __call__(self, text: str) -> str:
        """The text without passwords."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        for in_uri in self._short:
            text = text.replace(in_uri, ":***@")
        return _IN_DSN.sub(r"\1***", _IN_URI.sub(r"\1:***@", text))


def _passwords(conninfo: str) -> set[str]:
    found: set[str] = set()
    try:
        parsed = conninfo_to_dict(conninfo)
    except psycopg.Error:
        found.update(re.findall(r"password\s*=\s*(\S+)", conninfo))
    else:
        found.update(str(parsed[key]) for key in ("password", "sslpassword") if parsed.get(key))
    # An unescaped @ / ? or # in a URI's password: libpq takes a piece of it for the host, and names it in its errors.
    uri = re.match(r"\s*\w+://[^:/@\s]*:(.*)@", conninfo, re.DOTALL)
    if uri is not None:
        pieces = [uri[1], *re.split(r"[@/?#:]", uri[1])]
        found.update(form for piece in pieces if len(piece) > 1 for form in (piece, unquote(piece)))
    return found


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
