"""The setting PGFLOW; and the databases of DATABASES, as connection strings and as connections."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any, NamedTuple

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import DEFAULT_DB_ALIAS, connections
from django.utils.module_loading import import_string

from pgflow_starter.config import settings_from
from pgflow_starter.errors import DatabaseError, PgflowError
from pgflow_starter.postgres.connections.conninfo import conninfo_of

_NAME = re.compile(r"[\w.-]{0,63}")


class Configured(NamedTuple):
    """The setting PGFLOW: an alias of DATABASES, and settings of `pgflow_starter.start` for `manage.py pgflow run`."""

    database: str
    start: dict[str, Any]


def configured() -> Configured:
    """What PGFLOW says. Raises ImproperlyConfigured naming everything that is wrong with it."""
    given = getattr(settings, "PGFLOW", {})
    if not isinstance(given, dict):
        raise ImproperlyConfigured(f"PGFLOW must be a dict, got {_shown(given)}")
    keys = [name.upper() for name in Configured._fields]
    problems = [_unknown(key, keys) for key in given if key not in keys]
    database, start = given.get("DATABASE", DEFAULT_DB_ALIAS), given.get("START", {})
    try:
        _conninfo(database)
    except ImproperlyConfigured as error:
        problems.append(f"PGFLOW['DATABASE']: {error}")
    try:
        start = _start_settings(start)
    except (ValueError, ImportError, PgflowError) as error:
        problems.append(f"PGFLOW['START']: {error}")
    if problems:
        raise ImproperlyConfigured("; ".join(problems))
    return Configured(database, start)


def conninfo(using: str | None = None) -> str:
    """The connection string of a database in DATABASES, by its alias; in tests of the test database. Connects nowhere.

    Without `using` it is the one that PGFLOW names. Raises ImproperlyConfigured for an alias that is unknown, and one
    of another database than PostgreSQL.
    """
    return _conninfo(configured().database if using is None else using)


def _conninfo(alias: Any) -> str:
    if not isinstance(alias, str) or alias not in connections.settings:
        known = ", ".join(map(repr, connections.settings))
        raise ImproperlyConfigured(f"{_shown(alias)} is none of the aliases in DATABASES: {known}")
    connection = connections[alias]
    if connection.vendor != "postgresql":
        engine = connection.settings_dict["ENGINE"]
        raise ImproperlyConfigured(f"DATABASES[{alias!r}] is of the engine {engine!r}, and pgflow needs PostgreSQL")
    parameters = connection.get_connection_params()
    role = connection.settings_dict["OPTIONS"].get("assume_role")
    if role:
        options = f"{parameters.get('options') or ''} -c role={_escaped(role)}"
        parameters = {**parameters, "options": options.strip()}
    try:
        return conninfo_of(parameters)
    except PgflowError as error:
        raise ImproperlyConfigured(f"DATABASES[{alias!r}]: {error}") from None


@contextmanager
def lent(alias: str) -> Iterator[Any]:
    """The driver's connection beneath Django's, that of this thread, after Django's own looks at it."""
    connection = connections[alias]
    with connection.cursor():
        connection.validate_no_broken_transaction()
        try:
            yield connection.connection
        except DatabaseError:
            connection.errors_occurred = True  # it looks at whether it is still good, then, before it is used again
            raise


def _start_settings(given: Any) -> dict[str, Any]:
    """As `start` takes them, middleware by its path included. Raises ValueError, ImportError, PgflowError."""
    if not isinstance(given, dict):
        raise ValueError(f"must be a dict of settings of pgflow_starter.start, got {_shown(given)}")
    if unnamed := [key for key in given if not isinstance(key, str)]:
        raise ValueError(f"settings have names, got {', '.join(map(_shown, unnamed))}")
    if "schedules" in given:
        raise ValueError("schedules are found in the flows.py of installed apps, as flows and jobs are: put them there")
    middleware = given.get("middleware", ())
    if isinstance(middleware, list | tuple):
        middleware = tuple(import_string(one) if isinstance(one, str) else one for one in middleware)
    checked = settings_from("", {**given, "middleware": middleware})
    return {**given, "middleware": checked.middleware}


def _unknown(key: object, keys: list[str]) -> str:
    near = get_close_matches(str(key).upper(), keys, n=1)
    return f"PGFLOW has the unknown key {_shown(key)}" + (
        f" (did you mean {near[0]!r}?)" if near else f": it has {keys}"
    )


def _shown(value: object) -> str:
    """What is a name, or holds no text, as it is; else its type: a connection string has a password in it."""
    plain = value is None or isinstance(value, int | float)
    named = isinstance(value, str) and _NAME.fullmatch(value)
    return repr(value) if plain or named else f"a {type(value).__name__}"


def _escaped(text: str) -> str:
    """As libpq's `options` want it."""
    return text.replace("\\", "\\\\").replace(" ", "\\ ")
