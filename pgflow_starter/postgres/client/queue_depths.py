"""How much waits in each queue, for how long: so many queues a statement, so many messages of each counted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import psycopg
from psycopg import sql

from pgflow_starter.core.views import QueueDepth
from pgflow_starter.postgres.connections.connection import Connection

COUNTED = 1_000
"""Messages that are counted one by one, of those that wait and of those that are hidden; above it the server's own
count of what it has in the table tells about how many."""

AT_ONCE = 25
"""Queues of which one statement finds out whether they have a message."""

COUNTED_AT_ONCE = 10
"""Queues in which one statement counts: to plan it takes most of its time."""

MOST = 2_000
"""Queues that are looked into at all."""

MOST_LOCKED = 8
"""Locked queues that are waited for and left out: with more of them the look fails, for each would take its time."""

# The server counts what was ever put into a table, and what is in it, a second late at most: asked for all at once.
_QUEUES = """
select q.flow_slug, q.name, coalesce(pg_stat_get_tuples_inserted(q.archive), 0), pg_stat_get_live_tuples(q.waiting)
from (select n.flow_slug, n.name,
             to_regclass(pg_catalog.format('pgmq.%%I', 'q_' || pg_catalog.lower(n.name)))::oid as waiting,
             to_regclass(pg_catalog.format('pgmq.%%I', 'a_' || pg_catalog.lower(n.name)))::oid as archive
      from (select f.flow_slug, f.flow_slug as name from pgflow.flows f
            where coalesce(to_jsonb(f) ->> 'queue_mode'::text, 'flow') = 'flow'
            union
            select s.flow_slug, to_jsonb(s) ->> 'queue_name'::text from pgflow.steps s
            where to_jsonb(s) ->> 'queue_name'::text is not null) n) q
where q.waiting is not null and has_table_privilege(q.waiting, 'SELECT')
order by q.flow_slug, q.name limit %(most)s
"""
_HAS_ONE = "select {n}::integer where exists (select from pgmq.{queue})"
_DEPTH = """
select {n}::integer,
       (select pg_catalog.count(*) from (select from pgmq.{queue} where vt <= now() limit {counted}) w),
       (select pg_catalog.count(*) from (select from pgmq.{queue} where vt > now() limit {counted}) h),
       (select extract(epoch from now() - min(vt))::float8 from pgmq.{queue} where vt <= now())
"""
_UNION = sql.SQL(" union all ")
_UNSEEN = (psycopg.errors.UndefinedTable, psycopg.errors.LockNotAvailable)


class _Known(NamedTuple):
    """A queue that there is."""

    flow_slug: str
    name: str
    archived: int
    live: int


def depths(conn: Connection) -> tuple[QueueDepth, ...]:
    """Of all queues that the role may read, but for a few that somebody has locked. Raises psycopg's errors."""
    rows: list[Any] = conn.execute(_QUEUES, {"most": MOST}).fetchall()
    known = [_Known(*row) for row in rows]
    found: dict[_Known, Any] = dict.fromkeys(known, (0, 0, None))
    with_some = list(_asked(conn, _HAS_ONE, known, AT_ONCE, found))
    found |= _asked(conn, _DEPTH, with_some, COUNTED_AT_ONCE, found)
    return tuple(_depth(queue, *found[queue]) for queue in known if queue in found)


def _asked(
    conn: Connection, statement: str, queues: Sequence[_Known], at_once: int, all_: dict[_Known, Any]
) -> dict[_Known, Any]:
    """What is said of each of them; those that cannot be looked into are left out of `all_` from now on."""
    told: dict[_Known, Any] = {}
    locked = 0
    for some in (queues[n : n + at_once] for n in range(0, len(queues), at_once)):
        try:
            told |= _of(conn, statement, some)
        except _UNSEEN:
            for queue in some:
                try:
                    told |= _of(conn, statement, [queue])
                except psycopg.errors.UndefinedTable:
                    all_.pop(queue, None)
                except psycopg.errors.LockNotAvailable:
                    locked += 1
                    if locked > MOST_LOCKED:
                        raise
                    all_.pop(queue, None)
    return told


def _of(conn: Connection, statement: str, some: Sequence[_Known]) -> dict[_Known, Any]:
    parts = [
        sql.SQL(statement).format(n=n, queue=sql.Identifier(f"q_{queue.name.lower()}"), counted=COUNTED)
        for n, queue in enumerate(some)
    ]
    rows: list[Any] = conn.execute(_UNION.join(parts), prepare=False).fetchall()
    return {some[n]: rest for n, *rest in rows}


def _depth(queue: _Known, waiting: int, hidden: int, oldest: float | None) -> QueueDepth:
    if waiting >= COUNTED:
        waiting = max(waiting, queue.live - hidden)
    elif hidden >= COUNTED:
        hidden = max(hidden, queue.live - waiting)
    return QueueDepth(queue.name, queue.flow_slug, waiting, hidden, oldest, queue.archived)
