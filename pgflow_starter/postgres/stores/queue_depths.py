"""How much is in queues, and how long the oldest message has waited: for metrics and page alike, by the index of `vt`.

First which of them have a message, then how many: most are empty, and to plan the counting takes most of its time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg import sql

from pgflow_starter.core.readings import MOST_COUNTED, QueueDepth
from pgflow_starter.postgres.connections.connection import Connection
from pgflow_starter.postgres.connections.database import Database
from pgflow_starter.postgres.stores.fast_lane.lane import PLANS

AT_ONCE = 25
"""Queues of which one statement finds out whether they have a message: the server has that many tables locked."""

COUNTED_AT_ONCE = 10
"""Queues in which one statement counts."""

FULL = 200
"""Messages: a queue that is said to have more of them is counted by a statement of its own."""

MOST_LOCKED = 8
"""Queues that somebody has locked, each of which is waited for, and left out: with more of them a reading fails."""

LOCK = 0.1
PATIENCE = 1.0
"""Seconds that a reading for the metrics waits for somebody's lock, and for a connection: there will be another."""

AT_SERVER = 5.0
"""Seconds that one of its statements may take."""

# One that is gone, or that is not ours to read, keeps nobody from reading the others. How many rows the server says a
# table has, which it counts as they come and go, is right to about a second.
_READABLE = """
select t.name, pg_catalog.pg_stat_get_live_tuples(t.found)
from (select n.name,
             pg_catalog.to_regclass(pg_catalog.format('pgmq.%%I'::text, 'q_'::text || pg_catalog.lower(n.name)))::oid
                 as found
      from pg_catalog.unnest(%s::text[]) as n (name)) t
where pg_catalog.has_table_privilege(t.found, 'SELECT'::text)
"""
HAS_ONE = "select {name}::text, exists (select from pgmq.{queue})"
# Of one queue; those of several are united. Counted from the index alone where the table was vacuumed. From an infinite
# time PostgreSQL subtracts nothing before 17: one of them is hidden for ever, another has waited nobody knows how long.
DEPTH = """
select {name}::text,
       (select count(*) from (select from pgmq.{queue} where vt <= statement_timestamp() limit {most}) w),
       (select count(*) from (select from pgmq.{queue} where vt > statement_timestamp() limit {most}) h),
       (select extract(epoch from statement_timestamp() - min(vt))::float8 from pgmq.{queue}
        where vt <= statement_timestamp() and vt > '-infinity'::timestamptz)
"""
_GONE = (psycopg.errors.UndefinedTable, psycopg.errors.InsufficientPrivilege)
_LOCKED = psycopg.errors.LockNotAvailable


class PostgresQueueDepths:
    """`ports.QueueDepthStore` on a Database. Blocks on I/O; thread-safe."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def depths(self, queues: Sequence[str]) -> Sequence[QueueDepth]:
        """As `QueueDepthStore.depths`, but for a few that are locked for longer than a moment. Raises DatabaseError."""
        return self._database.call(lambda conn: depths(conn, queues), patience=PATIENCE, at_server=AT_SERVER, lock=LOCK)


def depths(conn: Connection, queues: Sequence[str]) -> list[QueueDepth]:
    """Of those that are there and may be read, but for a few that somebody has locked. Raises psycopg's errors."""
    rows: list[Any] = conn.execute(_READABLE, [list(queues)]).fetchall()
    live = dict(rows)
    filled = _asked(conn, HAS_ONE, list(live), AT_ONCE)
    found: dict[str, Any] = {queue: (0, 0, None) for queue, (has_one,) in filled.items() if not has_one}
    for at_once, full in ((COUNTED_AT_ONCE, False), (1, True)):
        some = [queue for queue, (has_one,) in filled.items() if has_one and (live[queue] > FULL) is full]
        found |= _asked(conn, DEPTH, some, at_once)
    return [_depth(queue, live[queue], *found[queue]) for queue in live if queue in found]


def _asked(conn: Connection, part: str, queues: Sequence[str], at_once: int) -> dict[str, Any]:
    """What is said of each of them; those that cannot be looked into are left out."""
    told: dict[str, Any] = {}
    locked = 0
    for some in (queues[n : n + at_once] for n in range(0, len(queues), at_once)):
        try:
            told |= _said(conn, part, some)
        except (*_GONE, _LOCKED):
            for queue in some:
                try:
                    told |= _said(conn, part, [queue])
                except _GONE:
                    continue
                except _LOCKED:
                    locked += 1
                    if locked > MOST_LOCKED:
                        raise
    return told


def _said(conn: Connection, part: str, queues: Sequence[str]) -> dict[str, Any]:
    # Whatever the planner takes the tables to be, which it may know nothing of: not through all their messages. A
    # transaction for each statement: it lets go of its tables.
    with conn.pipeline(), conn.transaction():
        conn.execute(PLANS)
        told = conn.execute(united(part, queues), prepare=False)
    rows: list[Any] = told.fetchall()
    return {queue: rest for queue, *rest in rows}


def united(part: str, queues: Sequence[str]) -> sql.Composed:
    """The statement that asks this of these, of which there must be some."""
    return sql.SQL(" union all ").join(
        sql.SQL(part).format(
            name=sql.Literal(queue), queue=sql.Identifier(f"q_{queue.lower()}"), most=sql.Literal(MOST_COUNTED)
        )
        for queue in queues
    )


def _depth(queue: str, live: int, waiting: int, hidden: int, oldest_age: float | None) -> QueueDepth:
    if waiting >= MOST_COUNTED:
        waiting = max(waiting, live - hidden)
    elif hidden >= MOST_COUNTED:
        hidden = max(hidden, live - waiting)
    return QueueDepth(queue, waiting, hidden, oldest_age)
