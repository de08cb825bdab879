"""The SQL that pgflow_starter executes in this process, as it reaches the server."""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

OURS = str(Path("pgflow_starter", "postgres"))


@dataclass(frozen=True)
class Statement:
    """One of them. `types` are the oids of what it was given, 0 where the server chooses; `where` is who ran it."""

    text: str
    types: tuple[int, ...]
    where: str


@contextmanager
def recorded() -> Iterator[set[Statement]]:
    """Those that are executed until the end of the block, on whatever thread, the names of queues' tables apart."""
    found: set[Statement] = set()
    genuine = psycopg.Cursor.execute

    def execute(self: Any, query: Any, params: Any = None, **options: Any) -> Any:
        try:
            # Unprepared: psycopg keeps what it sends with that only.
            return genuine(self, query, params, **options | {"prepare": False})
        finally:
            where, known = _caller(), self._query  # psycopg's documentation has us look there
            if where and known is not None:
                text = re.sub(r'"([qa])_\w+"', r'"\1_echo_0"', known.query.decode())
                found.add(Statement(text, tuple(known.types or ()), where))

    psycopg.Cursor.execute = execute  # type: ignore[method-assign]
    try:
        yield found
    finally:
        psycopg.Cursor.execute = genuine  # type: ignore[method-assign]


def _caller() -> str:
    """The innermost function of ours, the session that passes everything on apart."""
    for frame, _ in traceback.walk_stack(None):
        code = frame.f_code
        if OURS in code.co_filename and not code.co_filename.endswith(("connection.py", "admin.py")):
            return f"{Path(code.co_filename).name}:{code.co_name}"
    return ""
