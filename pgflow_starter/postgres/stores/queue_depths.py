"""`PostgresQueueDepths`: how much is in queues, and how long the oldest message has waited, by the index of `vt`."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any

import psycopg
from psycopg import sql

from pgflow_starter.core.readings import MOST_COUNTED, QueueDepth
from pgflow_starter.postgres.connections.connection import Connection
from pgflow_starter.postgres.connections.database import Database
from pgflow_starter.postgres.stores.fast_lane.lane import PLANS

AT_ONCE = 100
"""Queues that one statement counts: the server has that many tables locked for it."""

MOST_LOCKED = 8
"""Queues that somebody has locked, each of which is waited for, and left out: with more of them a reading fails."""

LOCK = 0.1
PATIENCE = 1.0
"""Seconds that a reading waits for somebody's lock, and for a connection: there will be another."""

AT_SERVER = 5.0
"""Seconds that one statement may take."""

# One that is gone, or that is not ours to read, keeps nobody from reading the others.
_READABLE = """
select t.name from pg_catalog.unnest(%s::text[]) as t (name)
where pg_catalog.has_table_privilege(
    pg_catalog.to_regclass(pg_catalog.format('pgmq.%%I'::text, 'q_'::text || pg_catalog.lower(t.name)))::oid,
    'SELECT'::text)
"""
# Of one queue; those of several are united. Counted from the index alone where the table was vacuumed. Seconds are
# subtracted, not times: before PostgreSQL 17 an infinite one fails that.
_DEPTH = """
select {name}::text,
       (select count(*) from (select from pgmq.{queue} where vt <= statement_timestamp() limit {most}) w),
       (select count(*) from (select from pgmq.{queue} where vt > statement_timestamp() limit {most}) h),
       (select extract(epoch from statement_timestamp()) - extract(epoch from min(vt)) from pgmq.{queue})
"""


class PostgresQueueDepths:
    """`ports.QueueDepthStore` on a Database: a statement for a hundred queues. Blocks on I/O; thread-safe."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def depths(self, queues: Sequence[str]) -> Sequence[QueueDepth]:
        """As `QueueDepthStore.depths`, but for a few that are locked for longer than a moment. Raises DatabaseError."""
        found: list[QueueDepth] = []
        locked = 0
        with self._database.connection(patience=PATIENCE, at_server=AT_SERVER, lock=LOCK) as conn:
            readable = iter([str(row[0]) for row in conn.execute(_READABLE, [list(queues)]).fetchall()])
            while some := list(islice(readable, AT_ONCE)):
                try:
                    found += _read(conn, some)
                except psycopg.errors.LockNotAvailable:
                    for queue in some:
                        try:
                            found += _read(conn, [queue])
                        except psycopg.errors.LockNotAvailable:
                            locked += 1
                            if locked > MOST_LOCKED:
                                raise
        return found


def _read(conn: Connection, queues: Sequence[str]) -> list[QueueDepth]:
    # Whatever the planner takes the tables to be, which it may know nothing of: not through all their messages.
    with conn.transaction():
        conn.execute(PLANS)
        rows: list[Any] = conn.execute(depth_of(queues), prepare=False).fetchall()
    return [QueueDepth(name, waiting, hidden, max(0.0, float(oldest or 0))) for name, waiting, hidden, oldest in rows]


def depth_of(queues: Sequence[str]) -> sql.Composed:
    """The statement that counts these, of which there must be some."""
    return sql.SQL(" union all ").join(
        sql.SQL(_DEPTH).format(
            name=sql.Literal(queue), queue=sql.Identifier(f"q_{queue.lower()}"), most=sql.Literal(MOST_COUNTED)
        )
        for queue in queues
    )
