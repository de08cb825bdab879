"""The two databases of a history, which has them to itself: one for the core's functions, one for the fast lane."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pgflow_starter.postgres.connections.connection import Connection, Session, server_limits
from pgflow_starter.postgres.stores.fast_lane.known_cores import Core, digests, look
from pgflow_starter.postgres.stores.tasks import PostgresTaskStore
from tests.fast_lane.rows import EVENTS
from tests.support.database import opened

SLUG = "f"
"""Of the flow of every history. Its queue is kept from one to the next: making one takes longer than a history."""

OFTEN = 50
"""Histories after which the tables are made anew: until then what is deleted lies about in them."""

LONGEST = 60.0
"""Seconds that a statement of a history may take, by far."""

_TABLES = (
    "realtime.events",
    "pgflow.step_tasks",
    "pgflow.step_states",
    "pgflow.runs",
    "pgflow.deps",
    "pgflow.steps",
    "pgflow.flows",
    "pgflow.workers",
    f"pgmq.q_{SLUG}",
    f"pgmq.a_{SLUG}",
)
_DELETE = "; ".join(f"delete from {table}" for table in _TABLES)
_TRUNCATE = f"truncate {', '.join(_TABLES)} cascade"
_FROM_ONE = f"select setval('pgmq.q_{SLUG}_msg_id_seq', 1, false)"


class Side:
    """One of the two databases, and what claims there."""

    def __init__(self, conn: Session, store: PostgresTaskStore) -> None:
        self.conn = conn
        self.store = store
        self.has_conditions = bool(
            self.do("select 1 from information_schema.columns where column_name = 'required_input_pattern'")
        )
        self._cleared = 0

    def do(self, query: str, *parameters: Any) -> list[Any]:
        """Its rows, if it has any."""
        cursor = self.conn.execute(query, parameters)
        return cursor.fetchall() if cursor.description else []

    def clear(self) -> None:
        """All that a history has left is gone; the next message's id is 1."""
        self._cleared += 1
        self.conn.execute(f"{_DELETE if self._cleared % OFTEN else _TRUNCATE}; {_FROM_ONE}")


def prepare(conninfo: str) -> None:
    """Have a database with nothing in it but a core keep from now on what is sent.

    Raises AssertionError with what there is to be listed if the core is none that the fast lane knows.
    """
    with Connection.connect(conninfo, autocommit=True) as conn:
        core = look(conn)
        assert isinstance(core, Core), f"{core}: {digests(conn)}"
        conn.execute(EVENTS)
        conn.execute("select pgflow.create_flow(%s)", (SLUG,))


@contextmanager
def side(conninfo: str, *, fast_lane: bool) -> Iterator[Side]:
    """In a database that is prepared."""
    with Session.connect(conninfo, autocommit=True) as conn, opened(conninfo) as database:
        conn.set_up(server_limits(LONGEST))
        yield Side(conn, PostgresTaskStore(database, fast_lane=fast_lane))
