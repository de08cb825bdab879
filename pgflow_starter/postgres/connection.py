"""`Connection`, and `gated`: those that are made only while they are wanted, and given up halfway when not any more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

import psycopg
from psycopg.abc import PQGenConn

Connection = psycopg.Connection[tuple[object, ...]]


def gated(wanted: Callable[[], bool]) -> type[Connection]:
    """A class of connections whose `connect` raises OperationalError within 0.1 s of being no longer `wanted`.

    Asked before each attempt and some ten times a second while the server does not answer. Nobody can interrupt libpq
    while it resolves a host name: that may take as long as the resolver does.
    """

    class GatedConnection(psycopg.Connection[tuple[object, ...]]):
        # psycopg offers no way to interrupt `connect`, but resumes this generator every 0.1 s. It is not in the
        # documented interface: in a psycopg that has none, connecting ends with its time limit.
        @classmethod
        def _connect_gen(cls, conninfo: str = "") -> PQGenConn[Self]:
            _check(wanted)
            connecting = super()._connect_gen(conninfo)
            try:
                waits_for = next(connecting)
                while True:
                    ready = yield waits_for
                    _check(wanted)
                    waits_for = connecting.send(ready)
            except StopIteration as made:
                return made.value  # type: ignore[no-any-return] # untyped in psycopg
            finally:
                connecting.close()

    return GatedConnection


def _check(wanted: Callable[[], bool]) -> None:
    if not wanted():
        msg = "the connection is no longer wanted"
        raise psycopg.OperationalError(msg)
