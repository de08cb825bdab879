"""Statements with named parameters, sent with numbered ones: else psycopg reads a long one anew at each call."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

import psycopg

from pgflow_starter.postgres.connections.connection import Connection

_PARAMETER = re.compile(r"%\((\w+)\)s")


def execute(conn: Connection, statement: str, parameters: Mapping[str, Any]) -> psycopg.Cursor[Any]:
    """As `conn.execute` of one that is prepared; it sets no limits for a call. Raises psycopg's errors."""
    text, names = _numbered(statement)
    return psycopg.RawCursor(conn).execute(text, [parameters[name] for name in names], prepare=True)


@cache
def _numbered(statement: str) -> tuple[bytes, tuple[str, ...]]:
    names = tuple(dict.fromkeys(_PARAMETER.findall(statement)))
    numbers = {name: f"${n}" for n, name in enumerate(names, 1)}
    return _PARAMETER.sub(lambda found: numbers[found[1]], statement).encode(), names
