"""What the database holds for workers and no claim of theirs will ever find."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any
from uuid import UUID, uuid4

import psycopg
from psycopg import sql

from pgflow_starter.core.evidence import Evidence
from pgflow_starter.postgres.connection import Connection
from pgflow_starter.postgres.database import Database
from pgflow_starter.postgres.features import Features

SAMPLE = 500
"""Queued tasks that one look takes from each side of a random place, messages of each doubted queue."""

LOCK = 0.2
"""Seconds that a look waits for somebody's lock: who is kept from working by it finds that out when it claims."""

# Queued tasks from a random place on, by the index of those that are queued: bounded, however many there are, and over
# some looks all of them are seen.
_QUEUED = """
with sample as materialized (
    (select run_id, flow_slug, step_slug, task_index from pgflow.step_tasks
     where status = 'queued' and run_id >= %(place)s order by run_id limit %(most)s)
    union all
    (select run_id, flow_slug, step_slug, task_index from pgflow.step_tasks
     where status = 'queued' and run_id < %(place)s order by run_id limit %(most)s)
)
select flow_slug, pg_catalog.array_agg(run_id), pg_catalog.array_agg(step_slug), pg_catalog.array_agg(task_index),
       (select pg_catalog.count(*) from sample)
from sample where flow_slug = any(%(slugs)s::text[]) group by flow_slug
"""
# Of one queue, in one snapshot: those of these tasks that are queued still, and those of them whose message is gone.
_LOST = """
select {slug}::text, pg_catalog.count(*), pg_catalog.count(*) filter (where q.msg_id is null), {hidden},
       pg_catalog.min(t.run_id::text) filter (where q.msg_id is null)
from rows from (pg_catalog.unnest({runs}::uuid[]), pg_catalog.unnest({steps}::text[]),
                pg_catalog.unnest({indexes}::integer[])) as o(run_id, step_slug, task_index)
join pgflow.step_tasks t using (run_id, step_slug, task_index)
join pgflow.runs r on r.run_id = t.run_id and r.status = 'started'
join pgflow.step_states e on e.run_id = t.run_id and e.step_slug = t.step_slug and e.status = 'started'
left join pgmq.{queue} q on q.msg_id = t.message_id
where t.status = 'queued'
"""
# Whether row level security hides rows of the queue from this role.
_HIDDEN = "pg_catalog.row_security_active({table})"
# Of one queue: whether there are messages still that were read and belong to no task, or to one that was refused.
_UNSTARTABLE = """
select {slug}::text, exists (
    select from (select msg_id, read_ct from pgmq.{queue} order by msg_id limit {most}) m
    where m.read_ct > 0 and (m.msg_id = any({refused}::bigint[]) or not exists (
        select from pgflow.step_tasks t join pgflow.runs r on r.run_id = t.run_id and r.status = 'started'
        where t.message_id = m.msg_id and t.flow_slug = {slug}{of_queue} and t.status in ('queued', 'started')))
)
"""


# Its worker meets them as well when it claims.
_OF_ONE_QUEUE = (
    psycopg.errors.UndefinedTable,
    psycopg.errors.InsufficientPrivilege,
    psycopg.errors.LockNotAvailable,
)


class Looks:
    """Looks for such things. Blocks on I/O; thread-safe."""

    def __init__(self, database: Database, detected: Callable[[Connection], Features]) -> None:
        self._database = database
        self._detected = detected

    def look(self, slugs: Sequence[str], doubted: Mapping[str, Iterable[int]]) -> Mapping[str, Evidence]:
        """For each queue of which there is something to say, and for each of the `doubted`: there messages were read
        that could not be started, these among them. Raises DatabaseError.
        """

        def look(conn: Connection) -> dict[str, Evidence]:
            given = {"place": uuid4(), "most": SAMPLE, "slugs": list(slugs)}
            queued: list[Any] = conn.execute(_QUEUED, given).fetchall()
            found = {slug: Evidence() for slug in doubted}
            if queued:
                whole = queued[0][4] < SAMPLE
                statements = [_lost(*row[:4]) for row in queued]
                for slug, tasks, lost, hidden, run in _all(conn, statements):
                    found[slug] = Evidence(tasks, lost, bool(hidden), run, whole)
            if doubted:
                of_queue = self._detected(conn).tasks_have_queues
                statements = [_unstartable(slug, refused, of_queue) for slug, refused in doubted.items()]
                for slug, there in _all(conn, statements):
                    found[slug] = found[slug].saying(unstartable=there)
            return found

        return self._database.call(look, lock=LOCK)


def _all(conn: Connection, statements: Sequence[sql.Composed]) -> list[Any]:
    """The rows of them all; what keeps one of them from being looked at is not for the others to pay for."""
    try:
        found: list[Any] = conn.execute(sql.SQL(" union all ").join(statements), prepare=False).fetchall()
    except _OF_ONE_QUEUE:
        if len(statements) == 1:
            raise
        found = []
        for statement in statements:
            with suppress(*_OF_ONE_QUEUE):
                found += conn.execute(statement, prepare=False).fetchall()
    return found


def _lost(slug: str, runs: Sequence[UUID], steps: Sequence[str], indexes: Sequence[int]) -> sql.Composed:
    return sql.SQL(_LOST).format(
        slug=sql.Literal(slug),
        queue=sql.Identifier(f"q_{slug}"),
        hidden=sql.SQL(_HIDDEN).format(table=sql.Literal(f"pgmq.q_{slug}")),
        runs=sql.Literal(list(runs)),
        steps=sql.Literal(list(steps)),
        indexes=sql.Literal(list(indexes)),
    )


def _unstartable(slug: str, refused: Iterable[int], of_queue: bool) -> sql.Composed:
    return sql.SQL(_UNSTARTABLE).format(
        slug=sql.Literal(slug),
        # Where tasks have queues, the index is of queue and message.
        of_queue=sql.SQL(" and t.queue_name = {}").format(sql.Literal(slug)) if of_queue else sql.SQL(""),
        queue=sql.Identifier(f"q_{slug}"),
        most=sql.Literal(SAMPLE),
        refused=sql.Literal(list(refused)),
    )
