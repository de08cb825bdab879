"""What was done with in the last hour, as the queues' archives tell: the last messages of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg import sql

from pgflow_starter.core.views import DoneBefore
from pgflow_starter.postgres.connections.connection import Connection

LAST = 1_000
"""Messages of an archive that are looked at."""

AT_ONCE = 10
"""Archives that one statement looks into."""

MOST = 200
"""Queues that are asked for."""

# By pgmq's index on the time.
_DONE = """
select {n}::integer, d.ago, pg_catalog.count(*)
from (select pg_catalog.floor(extract(epoch from now() - a.archived_at)::float8 / {every}::float8)::integer as ago
      from pgmq.{archive} a where a.archived_at > now() - {hour}::interval and a.archived_at <= now()
      order by a.archived_at desc limit {last}) d
group by d.ago
"""
_UNSEEN = (psycopg.errors.UndefinedTable, psycopg.errors.InsufficientPrivilege, psycopg.errors.LockNotAvailable)


def done_before(conn: Connection, queues: Sequence[str], every: int, slots: int) -> tuple[DoneBefore, ...]:
    """Of the first `MOST` of these, in slots of `every` seconds. Archives that cannot be seen are left out.

    Raises psycopg's errors.
    """
    found: list[DoneBefore] = []
    chosen = queues[:MOST]
    for some in (chosen[n : n + AT_ONCE] for n in range(0, len(chosen), AT_ONCE)):
        try:
            found += _of(conn, some, every, slots)
        except _UNSEEN:
            continue
    return tuple(found)


def _of(conn: Connection, some: Sequence[str], every: int, slots: int) -> list[DoneBefore]:
    parts = [
        sql.SQL(_DONE).format(
            n=n,
            archive=sql.Identifier(f"a_{queue.lower()}"),
            every=every,
            hour=sql.Literal(f"{every * slots} s"),
            last=LAST,
        )
        for n, queue in enumerate(some)
    ]
    rows: list[Any] = conn.execute(sql.SQL(" union all ").join(parts), prepare=False).fetchall()
    counts: list[dict[int, int]] = [{} for _ in some]
    for n, ago, count in rows:
        counts[n][ago] = count
    # Of the slot in which the looking ended there is more than was counted.
    return [
        DoneBefore(queue, max(of) if sum(of.values()) >= LAST else slots, of)
        for queue, of in zip(some, counts, strict=True)
    ]
