"""What the database holds for workers and no claim of theirs will ever find, and what it hides from them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any
from uuid import UUID, uuid4

import psycopg
from psycopg import sql

from pgflow_starter.core.evidence import Evidence, MessageKey, TaskKey
from pgflow_starter.postgres.connections.connection import Connection
from pgflow_starter.postgres.connections.database import Database
from pgflow_starter.postgres.stores.features import StorePart
from pgflow_starter.postgres.stores.queues import Queue
from pgflow_starter.postgres.stores.row_security import guarded

SAMPLE = 400
"""Queued tasks that one look takes from where the last one ended, messages of each doubted queue."""

REMEMBERED = 20
"""Tasks of a queue without a message that are looked at again."""

OVERDUE = 5
"""Seconds for which a message is visible until a queue that nobody takes it from is asked for the reason."""

LOCK = 0.2
"""Seconds that a look waits for somebody's lock: who is kept from working by it finds that out when it claims."""

# Queued tasks from a place on and, behind the last of them, from the first: bounded, by the index of those that are
# queued, and over some looks all of them are seen, wherever their run's ids lie. What is never read is named so that a
# lock on it is met.
_QUEUED = """
with unread as (
    select from pgflow.runs, pgflow.step_states, pgflow.workers, pgflow.flows, pgflow.steps, pgmq.meta where false
), ahead as materialized (
    select run_id, flow_slug, step_slug, task_index from pgflow.step_tasks
    where status = 'queued' and run_id >= %(place)s order by run_id limit %(most)s
), behind as materialized (
    select run_id, flow_slug, step_slug, task_index from pgflow.step_tasks
    where status = 'queued' and run_id < %(place)s and (select pg_catalog.count(*) from ahead) < %(most)s
    order by run_id limit %(most)s
), sample as (select * from ahead union all select * from behind)
select flow_slug, pg_catalog.array_agg(run_id), pg_catalog.array_agg(step_slug), pg_catalog.array_agg(task_index),
       null::boolean, null::uuid
from sample where flow_slug = any(%(slugs)s::text[]) group by flow_slug
union all
select null, null, null, null,
       (select pg_catalog.count(*) from ahead) < %(most)s and (select pg_catalog.count(*) from behind) < %(most)s,
       coalesce((select run_id from behind order by run_id desc limit 1),
                (select run_id from ahead order by run_id desc limit 1))
"""
# Of one queue, in one snapshot: those of these tasks that are queued still, those of them whose message is gone, or has
# been visible for long, and when somebody last recorded one.
_LOST = """
select {slug}::text, {step_queue}::text, pg_catalog.count(*), pg_catalog.count(*) filter (where q.msg_id is null),
       pg_catalog.jsonb_agg(pg_catalog.jsonb_build_array(t.run_id, t.step_slug, t.task_index))
           filter (where q.msg_id is null),
       pg_catalog.count(*) filter (
           where q.vt < clock_timestamp() - pg_catalog.make_interval(secs => {overdue}::float8)),
       (select extract(epoch from clock_timestamp() - max(archived_at)) from pgmq.{archive})
from unnest({runs}::uuid[], {steps}::text[], {indexes}::integer[]) as o(run_id, step_slug, task_index)
join pgflow.step_tasks t using (run_id, step_slug, task_index)
join pgflow.runs r on r.run_id = t.run_id and r.status = 'started'
join pgflow.step_states e on e.run_id = t.run_id and e.step_slug = t.step_slug and e.status = 'started'
left join pgmq.{queue} q on q.msg_id = t.message_id
where t.status = 'queued'
"""
# Of one queue: whether there are messages still that were read and belong to no task, or to one that was refused.
_UNSTARTABLE = """
select {slug}::text, exists (select from pgmq.{queue} where msg_id = any({refused}::bigint[])) or exists (
    select from (select msg_id, read_ct from pgmq.{queue} order by msg_id limit {most}) m
    where m.read_ct > 0 and not exists (
        select from pgflow.step_tasks t join pgflow.runs r on r.run_id = t.run_id and r.status = 'started'
        where t.message_id = m.msg_id and t.flow_slug = {slug}{of_queue} and t.status in ('queued', 'started'))
)
"""
_READ_AND_CHANGED = {"SELECT", "UPDATE"}
_USED: dict[str, set[str]] = {
    "pgflow.flows": {"SELECT"},
    "pgflow.runs": _READ_AND_CHANGED,
    "pgflow.step_states": _READ_AND_CHANGED,
    "pgflow.step_tasks": {*_READ_AND_CHANGED, "INSERT"},
    "pgflow.steps": {"SELECT"},
    "pgflow.workers": _READ_AND_CHANGED,
}
"""What a worker does with tables."""

_USED_OF_QUEUE = {"pgmq.q_{}": {*_READ_AND_CHANGED, "DELETE"}, "pgmq.a_{}": {"INSERT"}}

# Its worker meets them as well when it claims.
_OF_ONE_QUEUE = (psycopg.errors.UndefinedTable, psycopg.errors.InsufficientPrivilege)


class Looks(StorePart):
    """Looks for such things. Blocks on I/O; thread-safe."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        # Somewhere, for other processes look as well.
        self._place = uuid4()

    def evidence(
        self, slugs: Sequence[str], lost: Mapping[str, Sequence[TaskKey]], doubted: Mapping[str, Iterable[MessageKey]]
    ) -> Mapping[str, Evidence]:
        """As `TaskStore.evidence`."""

        def look(conn: Connection) -> dict[str, Evidence]:
            known = self._queues_of(conn, slugs)
            queues = {slug: known[slug] for slug in slugs}
            found = self._sampled(conn, lost, queues, _concealed(conn, queues))
            if doubted:
                of_queue = self._detected(conn).tasks_have_queues
                statements = [
                    _unstartable(slug, queue.name, refused, of_queue)
                    for slug, refused in doubted.items()
                    for queue in queues[slug]
                ]
                for slug, there in _all(conn, statements):
                    found[slug] = found[slug]._replace(unstartable=there or bool(found[slug].unstartable))
            return found

        return self._database.call(look, lock=LOCK)

    def _sampled(
        self,
        conn: Connection,
        lost: Mapping[str, Sequence[TaskKey]],
        queues: Mapping[str, Sequence[Queue]],
        concealed: Mapping[str, tuple[str, ...]],
    ) -> dict[str, Evidence]:
        place = self._place
        rows: list[Any] = conn.execute(_QUEUED, {"place": place, "most": SAMPLE, "slugs": list(concealed)}).fetchall()
        *queued, (*_, whole, last) = sorted(rows, key=lambda row: row[0] is None)
        # On from the last one's run, which may have more of them; where it has more than a look takes, from the next.
        self._place = UUID(int=(place.int + 1) % 2**128) if last in (None, place) else last
        found = {slug: Evidence(whole=whole, concealed=tables) for slug, tables in concealed.items()}
        keys = {slug: dict.fromkeys(known) for slug, known in lost.items() if known}
        for slug, *columns, _, _ in queued:
            keys.setdefault(slug, {}).update(dict.fromkeys(zip(*columns, strict=True)))
        statements = [
            _lost(slug, queue, of_queue)
            for slug, tasks in keys.items()
            for queue in queues[slug]
            if (of_queue := [task for task in tasks if queue.step in (None, task[1])])
        ]
        for slug, queue, tasks, gone, some, overdue, moved_ago in _all(conn, statements) if statements else ():
            before = found[slug]
            says = (gone and not before.lost) or (overdue and not (before.lost or before.overdue))
            moved = [ago for ago in (before.moved_ago, moved_ago) if ago is not None]
            found[slug] = before._replace(
                queued=before.queued + tasks,
                lost=before.lost + gone,
                lost_tasks=before.lost_tasks
                + tuple((UUID(run), step, index) for run, step, index in (some or ())[:REMEMBERED]),
                hidden=before.hidden or (gone > 0 and f"pgmq.q_{queue or slug}" in concealed[slug]),
                overdue=before.overdue + overdue,
                moved_ago=float(min(moved)) if moved else None,
                queue=queue if says else before.queue,
            )
        return found


def _concealed(conn: Connection, queues: Mapping[str, Sequence[Queue]]) -> dict[str, tuple[str, ...]]:
    """For each flow the tables of which row level security hides for certain what its worker reads or writes there."""
    used = {
        slug: _USED | {t.format(queue.name): does for t, does in _USED_OF_QUEUE.items() for queue in of_flow}
        for slug, of_flow in queues.items()
    }
    refused = guarded(conn, {table for tables in used.values() for table in tables}, unless_owners=True)
    return {slug: tuple(t for t in refused if refused[t] & tables.get(t, set())) for slug, tables in used.items()}


def _all(conn: Connection, statements: Sequence[sql.Composed]) -> list[Any]:
    """The rows of them all; what keeps one of them from being looked at is not for the others to pay for."""
    try:
        found: list[Any] = conn.execute(sql.SQL(" union all ").join(statements), prepare=False).fetchall()
    except _OF_ONE_QUEUE:
        found = []
        for statement in statements:
            with suppress(*_OF_ONE_QUEUE):
                found += conn.execute(statement, prepare=False).fetchall()
    return found


def _lost(slug: str, queue: Queue, tasks: Sequence[TaskKey]) -> sql.Composed:
    return sql.SQL(_LOST).format(
        slug=sql.Literal(slug),
        step_queue=sql.Literal(queue.name if queue.step else None),
        queue=sql.Identifier(f"q_{queue.name}"),
        archive=sql.Identifier(f"a_{queue.name}"),
        overdue=sql.Literal(OVERDUE),
        runs=sql.Literal([run for run, _, _ in tasks]),
        steps=sql.Literal([step for _, step, _ in tasks]),
        indexes=sql.Literal([index for _, _, index in tasks]),
    )


def _unstartable(slug: str, queue: str, refused: Iterable[MessageKey], of_queue: bool) -> sql.Composed:
    return sql.SQL(_UNSTARTABLE).format(
        slug=sql.Literal(slug),
        # Where tasks have queues, the index is of queue and message.
        of_queue=sql.SQL(" and t.queue_name = {}").format(sql.Literal(queue)) if of_queue else sql.SQL(""),
        queue=sql.Identifier(f"q_{queue}"),
        most=sql.Literal(SAMPLE),
        refused=sql.Literal([message for of, message in refused if of == queue]),
    )
