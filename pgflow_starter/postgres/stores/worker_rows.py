"""`WorkerRows`: workers in the database: that they are there, live, have something to do, and have stopped.

Ours say that they live whatever their tasks do; others may be silent for as long as a task takes. The core knows a
worker by the name of an edge function, which it calls when none of its workers lives: a name that no such function can
have keeps nobody's from being called. Rows without the mark, of earlier versions too, count as another runtime's.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from typing import Any
from uuid import UUID

import psycopg
from psycopg import sql

from pgflow_starter.core.heard import Heard
from pgflow_starter.postgres.connections.connection import Connection
from pgflow_starter.postgres.stores.features import StorePart

MARK = "pgflow_starter:"
"""Before the slug, as the function's name. A colon is in no name of an edge function."""

OURS = f"w.function_name = '{MARK}' || w.queue_name"
"""Of a row `w`."""

STOPPED = "coalesce((pg_catalog.to_jsonb(w) ->> 'stopped_at'::text)::timestamptz >= w.last_heartbeat_at, false)"
"""Whether it said that it stopped, as newer cores' do, and was not heard of since."""

LOOK_LOCK = 0.1
"""Seconds that a look into many queues waits for one that somebody has locked: each claims by itself then."""

# Whether this is the schema that the worker registered in. Fails as the claim does where there is none.
WIRED = """
exists (select from pgflow.workers where worker_id = {worker})
and exists (select from pgflow.flows where flow_slug = {flow})
and exists (select from pgmq.meta where queue_name::text = {queue})
"""

# Workers' rows, marked as `OURS`; again is no harm, and one that was stopped is a worker anew.
REGISTER_WORKERS = f"""
insert into pgflow.workers as w (worker_id, queue_name, function_name)
select id, slug, '{MARK}' || slug from unnest(%s::uuid[], %s::text[]) as given (id, slug)
on conflict (worker_id) do update set last_heartbeat_at = now()
"""  # noqa: S608 - constants

# Of many queues and workers at a time; the queues' tables are named in the text.
_LOOK = """
select case when {wired} then extract(epoch from case given.n {firsts} end) - extract(epoch from clock_timestamp())
       else 0 end
from unnest({workers}::uuid[], {flows}::text[], {queues}::text[]) with ordinality as given (worker, flow, queue, n)
order by given.n
"""
_FIRST = "when {n} then (select min(vt) from pgmq.{queue})"
# One statement for all workers of a process. A row that is gone stays so: by that a worker knows that it must be wired
# again, see `claim`. One that somebody has locked is passed over: the others are alive all the same.
_HEARTBEAT = """
update pgflow.workers w set last_heartbeat_at = now()
from (select worker_id from pgflow.workers where worker_id = any(%s) for no key update skip locked) free
where w.worker_id = free.worker_id
returning w.worker_id, w.deprecated_at is not null
"""
# One that was deleted has ended as well, perhaps since the last heartbeat.
_ENDED = """
select given.run_id from pg_catalog.unnest(%s::uuid[]) as given (run_id)
where not exists (select from pgflow.runs r where r.run_id = given.run_id and r.status = 'started')
"""
# The newer cores' requeue_stalled_tasks takes a task from its living worker when it is 30 s older than its timeout: its
# flow's, which a step's may exceed, or its step's, of which we may be told late. It is kept just younger. Not as young
# as now: a completion that has begun before would end before its task began.
_KEEP_YOUNG = """
with old as (
    select t.run_id, t.step_slug, t.task_index,
           now() - pg_catalog.make_interval(secs => {timeout} + 5) as just_younger
    from pgflow.step_tasks t
    join pgflow.flows f on f.flow_slug = t.flow_slug
    join pgflow.steps s on s.flow_slug = t.flow_slug and s.step_slug = t.step_slug
    where t.status = 'started' and t.last_worker_id = any(%s)
      and t.started_at < now() - pg_catalog.make_interval(secs => {timeout} + 5)
    for update of t skip locked
)
update pgflow.step_tasks t set started_at = old.just_younger
from old where t.run_id = old.run_id and t.step_slug = old.step_slug and t.task_index = old.task_index
"""
# The rows are locked in an order, and those that somebody else has locked are passed over where that is wanted.
_STOPPED_NEW = """
select free.worker_id, pgflow.mark_worker_stopped(free.worker_id)
from (select worker_id from pgflow.workers where worker_id = any(%s) order by 1 for no key update {skip}) free
"""
_STOPPED_OLD = """
update pgflow.workers w set deprecated_at = coalesce(w.deprecated_at, now())
from (select worker_id from pgflow.workers where worker_id = any(%s) order by 1 for no key update {skip}) free
where w.worker_id = free.worker_id
returning w.worker_id
"""


class WorkerRows(StorePart):
    """Of a process. Blocks on I/O; thread-safe."""

    def look(self, workers: Sequence[tuple[UUID, str]]) -> list[float | None]:
        """As `TaskStore.look`.

        Raises DatabaseError, too, for all when the table of one queue is missing, or locked for longer than a moment.
        """
        with self._database.connection(lock=LOOK_LOCK) as conn:
            queues_of = self._queues_of(conn, [flow for _, flow in workers])
            given = [(worker, flow, queue.name) for worker, flow in workers for queue in queues_of[flow]]
            rows: list[Any] = conn.execute(_look(given), prepare=False).fetchall()
        seen: dict[tuple[UUID, str], list[float]] = {}
        for (worker, flow, _), (seconds,) in zip(given, rows, strict=True):
            seen.setdefault((worker, flow), []).extend([] if seconds is None else [float(seconds)])
        return [min(seen[worker], default=None) for worker in workers]

    def heartbeat(self, workers: Sequence[UUID], runs: Collection[UUID] = ()) -> Heard:
        """As `TaskStore.heartbeat`. Waits for nobody else's; where the runs cannot be asked for, it hears of none."""

        def beat(conn: Connection) -> Heard:
            rows: list[Any] = conn.execute(_HEARTBEAT, (list(workers),)).fetchall()
            deprecated = {worker for worker, wanted in rows if wanted}
            ended: list[Any] = []
            if runs:
                # What is wrong with the runs, a lock on their table say, is no business of the heart's.
                with suppress(psycopg.errors.LockNotAvailable, psycopg.ProgrammingError):
                    ended = conn.execute(_ENDED, (list(runs),)).fetchall()
            return Heard(deprecated, {run for (run,) in ended})

        return self._database.call(beat, urgent=True)

    def keep_young(self, workers: Sequence[UUID]) -> None:
        """As `TaskStore.keep_young`."""

        def kept(conn: Connection) -> None:
            # Not as it was seen before: the core may have been upgraded under us, and nothing has failed of it.
            features = self._detected.anew(conn)
            if features.requeue_stalled_tasks:
                timeout = "coalesce(s.opt_timeout, f.opt_timeout)" if features.cancels else "f.opt_timeout"
                conn.execute(_KEEP_YOUNG.format(timeout=timeout), (list(workers),))

        self._database.call(kept)

    def workers_stopped(self, workers: Sequence[UUID]) -> None:
        """Say that the workers have stopped, in one statement; of those that somebody has locked in another one.

        For that lock it waits as `Database.connection` does.
        """

        def say(conn: Connection) -> None:
            statement = _STOPPED_NEW if self._detected.anew(conn).mark_worker_stopped else _STOPPED_OLD
            rows: list[Any] = conn.execute(statement.format(skip="skip locked"), (list(workers),)).fetchall()
            locked = set(workers) - {row[0] for row in rows}
            if locked:
                conn.execute(statement.format(skip=""), (list(locked),))

        self._database.call(say)


def _look(given: Sequence[tuple[UUID, str, str]]) -> sql.Composed:
    """For these workers, each with its flow and one of its queues."""
    firsts = [
        sql.SQL(_FIRST).format(n=sql.Literal(n), queue=sql.Identifier(f"q_{queue}"))
        for n, (_, _, queue) in enumerate(given, start=1)
    ]
    return sql.SQL(_LOOK).format(
        wired=sql.SQL(WIRED.format(worker="given.worker", flow="given.flow", queue="given.queue")),
        firsts=sql.SQL(" ").join(firsts),
        workers=sql.Literal([worker for worker, _, _ in given]),
        flows=sql.Literal([flow for _, flow, _ in given]),
        queues=sql.Literal([queue for _, _, queue in given]),
    )
