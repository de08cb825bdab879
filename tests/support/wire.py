"""`Wire`: what our connections send to the server, and how often somebody waits for an answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from psycopg.pq import Trace

from pgflow_starter.postgres.connections.connection import Session


class Sent(NamedTuple):
    """Statements, and turns: each time that something is sent after something has come."""

    turns: int
    statements: int


class Wire:
    """All that goes over the connections that were made since."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._size = 0

    def sent(self) -> Sent:
        """Since it was asked last."""
        told = self._path.read_bytes()
        fields = [line.split(b"\t") for line in told[self._size :].splitlines()]
        self._size = len(told)
        ways = [b"B", *(line[0] for line in fields)]
        turns = sum(one == b"B" and other == b"F" for one, other in pairwise(ways))
        return Sent(turns, sum(line[0] == b"F" and line[2] in (b"Execute", b"Query") for line in fields))

    def during(self, call: Callable[[], object]) -> Sent:
        """In the course of that."""
        self.sent()
        call()
        return self.sent()


@contextmanager
def traced(path: Path) -> Iterator[Wire]:
    """Until the end of the block."""
    set_up = Session.set_up
    with path.open("ab") as file, pytest.MonkeyPatch.context() as patched:

        def set_up_traced(self: Session, *arguments: Any) -> None:
            set_up(self, *arguments)
            self.pgconn.trace(file.fileno())
            self.pgconn.set_trace_flags(Trace.SUPPRESS_TIMESTAMPS)

        patched.setattr(Session, "set_up", set_up_traced)
        yield Wire(path)
