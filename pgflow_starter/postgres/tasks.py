"""Messages and tasks in the database: what a worker does there, by pgflow's protocol."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cache
from typing import Any
from uuid import UUID

import psycopg
from psycopg import sql

from pgflow_starter.core.definition import FlowDefinition, StepDefinition
from pgflow_starter.core.task import Claimed, Outcome, OutcomeKind, Task
from pgflow_starter.errors import DatabaseError, UnknownFlowError
from pgflow_starter.ports import CancelScope
from pgflow_starter.postgres import pgmq
from pgflow_starter.postgres.connection import Connection
from pgflow_starter.postgres.database import Database
from pgflow_starter.postgres.features import Features, detect
from pgflow_starter.postgres.inputs import VERSION, FlowInputs

logger = logging.getLogger("pgflow_starter.tasks")

VT_MARGIN = 2
"""Seconds that a message stays invisible beyond its task's timeout, as pgflow does it."""

# Reads and claims in one statement, so that a crash cannot come between. The attempt is the count before plus one: the
# outer query does not see what start_tasks wrote, nor the row of a task that is newer than itself. One row at least,
# for the number of messages read. The run's version only where the outer query sees the very task: else the run that it
# sees may be one that was deleted and started anew since. Seconds are subtracted, not times: before PostgreSQL 17 an
# infinite one fails that.
_CLAIM = """
with messages as materialized (
    select array_agg(msg_id) as ids, count(*) as n, {headers} as headers from pgmq.read(%(queue)s, %(vt)s, %(quantity)s)
), started as materialized (
    select t.* from messages m, pgflow.start_tasks(%(queue)s, m.ids, %(worker)s) t where m.ids is not null
)
select m.n,
       case when m.n = 0 then (select extract(epoch from min(vt)) - extract(epoch from clock_timestamp())
                               from pgmq.{queue} where vt > clock_timestamp()) end,
       s.run_id is not null or {wired},
       s.run_id, s.step_slug, s.task_index, s.msg_id, s.input::text, {flow_input},
       coalesce((select t.attempts_count from pgflow.step_tasks t
                 where t.run_id = s.run_id and t.step_slug = s.step_slug and t.task_index = s.task_index), 0) + 1,
       (m.headers -> s.msg_id::text)::text,
       (select {version} from pgflow.step_tasks t join pgflow.runs r on r.run_id = t.run_id
        where t.run_id = s.run_id and t.step_slug = s.step_slug and t.task_index = s.task_index
          and t.message_id = s.msg_id)
from messages m left join started s on true
"""
_HEADERS = "jsonb_object_agg(msg_id, headers) filter (where headers is not null)"
# Whether this is the schema that the worker registered in. Fails as the claim does where there is none.
_WIRED = """
exists (select from pgflow.workers where worker_id = {worker})
and exists (select from pgflow.flows where flow_slug = {queue})
and exists (select from pgmq.meta where queue_name = {queue})
"""
_IS_WIRED = f"select {_WIRED.format(worker='%(worker)s', queue='%(queue)s')}"
# Of many queues and workers at a time; the queues' tables are named in the text. One that somebody has locked must not
# hold up the others: each claims by itself then. In one round trip, the values in the text: not by psycopg's pipeline,
# which logs warnings of its own when it breaks.
_LOOK = """
set local lock_timeout = '100ms';
select case when {wired} then extract(epoch from case given.n {firsts} end) - extract(epoch from clock_timestamp())
            else 0 end
from unnest({workers}::uuid[], {queues}::text[]) with ordinality as given (worker, queue, n)
order by given.n
"""
_FIRST = "when {n} then (select min(vt) from pgmq.{queue})"
_UNWIRED_STATES = ("3F000", "42P01", "42883", "23503")  # schema, table, function missing; unknown worker
# start_tasks leaves the messages as invisible as they were read; a step of another timeout needs its own.
_EXTEND = "select count(*) from pgflow.set_vt_batch(%s, %s::bigint[], %s::integer[])"
# Taken first: fail_task beside complete_task in one run deadlocks on 0.8.1 otherwise. In order of run_id, for the same
# reason between batches.
_LOCK_RUN = "select from pgflow.runs where run_id = %s for update"
_TRY_LOCK_RUN = "select from pgflow.runs where run_id = %s for update skip locked"
_LOCK_RUNS = "select count(*) from (select from pgflow.runs where run_id = any(%s) order by run_id for update) r"
# All in one statement, in the order given.
_COMPLETE = """
select count(*)
from unnest(%s::uuid[], %s::text[], %s::integer[], %s::text[]) as o(run_id, step_slug, task_index, output),
     lateral pgflow.complete_task(o.run_id, o.step_slug, o.task_index, o.output::jsonb)
"""
_FAIL = "select count(*) from pgflow.fail_task(%s, %s, %s, %s)"
# Leaves the task no attempt, so that fail_task fails it for good.
_EXHAUST = """
update pgflow.step_tasks t
set attempts_count = greatest(t.attempts_count, coalesce(s.opt_max_attempts, f.opt_max_attempts))
from pgflow.steps s join pgflow.flows f using (flow_slug)
where s.flow_slug = t.flow_slug and s.step_slug = t.step_slug
  and t.run_id = %s and t.step_slug = %s and t.task_index = %s and t.status = 'started'
"""
# A task that this worker started and did not end, as if it had never been claimed.
_GIVE_BACK = """
update pgflow.step_tasks set status = 'queued', started_at = null, attempts_count = greatest(attempts_count - 1, 0)
where run_id = %s and step_slug = %s and task_index = %s and status = 'started' and last_worker_id = %s
returning message_id
"""
_SHOW_AT_ONCE = "select count(*) from pgmq.set_vt(%s, %s::bigint, 0)"
_STARTED_BY = """
select run_id, step_slug, task_index, message_id from pgflow.step_tasks
where flow_slug = %s and last_worker_id = %s and status = 'started' and message_id <> all(%s::bigint[])
"""
# Tasks whose worker has not been heard of: judged by the worker, however long the task itself runs, and not by the time
# in which the server was down and nobody could be heard.
_STALLED = """
select t.run_id, t.step_slug, t.task_index, t.flow_slug, t.message_id, t.last_worker_id,
       t.attempts_count >= coalesce(s.opt_max_attempts, f.opt_max_attempts)
from pgflow.step_tasks t
join pgflow.flows f on f.flow_slug = t.flow_slug
join pgflow.steps s on s.flow_slug = t.flow_slug and s.step_slug = t.step_slug
join pgflow.step_states e on e.run_id = t.run_id and e.step_slug = t.step_slug and e.status = 'started'
join pgflow.runs r on r.run_id = t.run_id and r.status = 'started'
left join pgflow.workers w on w.worker_id = t.last_worker_id
where t.status = 'started' and t.flow_slug = any(%(slugs)s) and not coalesce(t.last_worker_id = any(%(own)s), false)
  and greatest(w.last_heartbeat_at, case when w.worker_id is null then t.started_at end, pg_postmaster_start_time())
      < now() - make_interval(secs => %(age)s)
order by t.run_id, t.step_slug, t.task_index
limit 1000
"""
_REQUEUE = """
update pgflow.step_tasks set status = 'queued', started_at = null
where run_id = %s and step_slug = %s and task_index = %s and status = 'started'
  and last_worker_id is not distinct from %s
returning message_id
"""
_STILL_STALLED = """
select from pgflow.step_tasks
where run_id = %s and step_slug = %s and task_index = %s and status = 'started'
  and last_worker_id is not distinct from %s
for update
"""
_STALLED_TEXT = "the worker that ran the task died, and the task has no attempt left"
# One statement for all workers of a process. A row that is gone stays so: by that a worker knows that it must be wired
# again, see `claim`.
_HEARTBEAT = """
update pgflow.workers set last_heartbeat_at = now() where worker_id = any(%s)
returning worker_id, deprecated_at is not null
"""
# The newer cores' requeue_stalled_tasks takes a task from its living worker when it is 30 s older than its flow's
# timeout, which a step's may exceed: it is kept just younger. Not as young as now: a completion that has begun before
# would end before its task began.
_KEEP_YOUNG = """
with old as (
    select t.run_id, t.step_slug, t.task_index, now() - make_interval(secs => f.opt_timeout + 5) as just_younger
    from pgflow.step_tasks t join pgflow.flows f on f.flow_slug = t.flow_slug
    where t.status = 'started' and t.last_worker_id = any(%s)
      and t.started_at < now() - make_interval(secs => f.opt_timeout + 5)
    for update of t skip locked
)
update pgflow.step_tasks t set started_at = old.just_younger
from old where t.run_id = old.run_id and t.step_slug = old.step_slug and t.task_index = old.task_index
"""
_STOPPED_NEW = "select pgflow.mark_worker_stopped(%s)"
_STOPPED_OLD = "update pgflow.workers set deprecated_at = coalesce(deprecated_at, now()) where worker_id = %s"


class PostgresTaskStore:
    """`ports.TaskStore` on a Database. Blocks on I/O; thread-safe."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._features: Features | None = None
        self._inputs = FlowInputs()

    def claim(self, definition: FlowDefinition, worker_id: UUID, quantity: int, scope: CancelScope) -> Claimed:
        """Read up to `quantity` visible messages and start their tasks.

        Raises DatabaseError; UnknownFlowError when the flow or the worker is in the database no more.
        """
        queue = definition.slug
        vt = max(definition.timeout_of(s) for s in definition.steps) + VT_MARGIN
        with self._database.connection(scope) as conn:
            features = self._detected(conn)
            parameters = {"queue": queue, "vt": vt, "quantity": quantity, "worker": worker_id}
            try:
                rows = _claimed(conn, _claim_statement(queue, features.flow_input, features.headers), parameters)
            except psycopg.Error as error:
                self._features = None  # the core may have been replaced under us
                if error.sqlstate in _UNWIRED_STATES and conn.execute(_IS_WIRED, parameters).fetchone() == (False,):
                    raise _unwired(queue) from error
                raise
            read, visible_in, wired = rows[0][:3]
            if not wired:
                raise _unwired(queue)
            started = [r[3:] for r in rows if r[3] is not None]
            steps = {s.slug: s for s in definition.steps}
            self._extend(conn, definition, steps, vt, started)
            tasks = self._inputs.tasks(conn, queue, steps, started)
        return Claimed(read, tasks, None if visible_in is None else float(visible_in))

    def look(self, workers: Sequence[tuple[UUID, str]]) -> list[float | None]:
        """For each worker (id, queue): in how many seconds its queue has a visible message, None when it has none.

        0 also where the claim will fail. Raises DatabaseError, too, for all when the table of one queue is missing, or
        locked for longer than a moment.
        """
        firsts = [
            sql.SQL(_FIRST).format(n=sql.Literal(n), queue=sql.Identifier(f"q_{queue}"))
            for n, (_, queue) in enumerate(workers, start=1)
        ]
        statement = sql.SQL(_LOOK).format(
            wired=sql.SQL(_WIRED.format(worker="given.worker", queue="given.queue")),
            firsts=sql.SQL(" ").join(firsts),
            workers=sql.Literal([worker for worker, _ in workers]),
            queues=sql.Literal([queue for _, queue in workers]),
        )
        with self._database.connection() as conn:
            cursor = conn.execute(statement, prepare=False)
            cursor.nextset()
            rows: list[Any] = cursor.fetchall()
        return [None if seconds is None else float(seconds) for (seconds,) in rows]

    def settle(self, outcomes: Sequence[Outcome], answers: int = 1) -> None:
        """Write what became of tasks, in one transaction and one round trip; it is all written or nothing."""
        ordered = sorted(outcomes, key=lambda o: (o.task.run_id, o.task.step_slug, o.task.task_index))
        completed = [o for o in ordered if o.kind is OutcomeKind.COMPLETED]
        others = [o for o in ordered if o.kind is not OutcomeKind.COMPLETED]
        with self._database.connection(answers=answers) as conn:
            if not others:
                _complete(conn, completed)
                return
            with conn.pipeline(), conn.transaction():
                conn.execute(_LOCK_RUNS, (sorted({o.task.run_id for o in ordered}),))
                if completed:
                    _complete(conn, completed)
                for outcome in others:
                    key = (outcome.task.run_id, outcome.task.step_slug, outcome.task.task_index)
                    if outcome.kind is OutcomeKind.FAILED_FOR_GOOD:
                        conn.execute(_EXHAUST, key)
                    conn.execute(_FAIL, (*key, outcome.error))

    def give_back(self, worker_id: UUID, tasks: Sequence[Task]) -> None:
        """Make tasks that did not end claimable by others at once, their attempt not counted."""
        for task in tasks:
            with self._database.connection() as conn, conn.transaction():
                conn.execute(_LOCK_RUN, (task.run_id,))
                row = conn.execute(_GIVE_BACK, (task.run_id, task.step_slug, task.task_index, worker_id)).fetchone()
                if row is not None:
                    conn.execute(_SHOW_AT_ONCE, (task.flow_slug, row[0]))

    def give_back_unknown(self, worker_id: UUID, slug: str, known: Sequence[Task]) -> None:
        """Give back the tasks that the worker has started in the database but, not being among `known`, not here."""
        with self._database.connection() as conn:
            rows: list[Any] = conn.execute(_STARTED_BY, (slug, worker_id, [t.msg_id for t in known])).fetchall()
        self.give_back(worker_id, [Task(run, slug, step, index, msg, 0, None, None) for run, step, index, msg in rows])

    def recover_stalled(self, slugs: Sequence[str], own: Sequence[UUID], stale_threshold: float) -> int:
        """Give tasks whose worker's heartbeat is older than `stale_threshold` seconds their next attempt, or fail them.

        Each in a transaction of its own and checked again under its run's lock: two sweeps at once do no harm.
        """
        with self._database.connection() as conn:
            parameters = {"slugs": list(slugs), "own": list(own), "age": stale_threshold}
            rows: list[Any] = conn.execute(_STALLED, parameters).fetchall()
        recovered = 0
        for run_id, step, index, slug, msg_id, worker, exhausted in rows:
            key = (run_id, step, index)
            with self._database.connection() as conn, conn.transaction():
                # A run that somebody holds is left for the next sweep: heartbeats wait for this one.
                if conn.execute(_TRY_LOCK_RUN, (run_id,)).fetchone() is None:
                    continue
                if conn.execute(_STILL_STALLED, (*key, worker)).fetchone() is None:
                    continue
                # Without a message the core's own requeue_stalled_tasks has given the task up.
                if exhausted or conn.execute(_SHOW_AT_ONCE, (slug, msg_id)).fetchone() == (0,):
                    conn.execute(_EXHAUST, key)
                    conn.execute(_FAIL, (*key, _STALLED_TEXT))
                else:
                    conn.execute(_REQUEUE, (*key, worker))
            recovered += 1
        return recovered

    def heartbeat(self, workers: Sequence[tuple[UUID, str]]) -> set[UUID]:
        """Say that the workers (id, queue) are alive; those that pgflow wants to stop are returned."""
        with self._database.connection() as conn, conn.transaction():
            conn.execute(pgmq.LIMIT_LOCKS)
            ids = [worker for worker, _ in workers]
            rows: list[Any] = conn.execute(_HEARTBEAT, (ids,)).fetchall()
            if self._detected(conn).requeue_stalled_tasks:
                conn.execute(_KEEP_YOUNG, (ids,))
        return {worker for worker, deprecated in rows if deprecated}

    def worker_stopped(self, worker_id: UUID) -> None:
        """Say that the worker has stopped."""
        with self._database.connection() as conn:
            self._features = None  # the core may have been upgraded under us
            new = self._detected(conn).mark_worker_stopped
            conn.execute(_STOPPED_NEW if new else _STOPPED_OLD, (worker_id,))

    def _detected(self, conn: Connection) -> Features:
        features = self._features
        if features is None:
            try:
                features = self._features = detect(conn)
            except DatabaseError:
                raise
            except Exception as error:
                # To a running worker the schema being away is an outage like any other.
                raise DatabaseError(str(error), error_type=type(error).__name__) from error
        return features

    def _extend(
        self, conn: Connection, definition: FlowDefinition, steps: dict[str, StepDefinition], vt: int, rows: list[Any]
    ) -> None:
        other = [
            (r[3], definition.timeout_of(steps[r[1]]) + VT_MARGIN)
            for r in rows
            if r[1] in steps and definition.timeout_of(steps[r[1]]) + VT_MARGIN != vt
        ]
        if other:
            conn.execute(_EXTEND, (definition.slug, [m for m, _ in other], [v for _, v in other]))


def _complete(conn: Connection, outcomes: Sequence[Outcome]) -> None:
    tasks = [o.task for o in outcomes]
    columns = [t.run_id for t in tasks], [t.step_slug for t in tasks], [t.task_index for t in tasks]
    conn.execute(_COMPLETE, (*columns, [o.output_json for o in outcomes]))


@cache
def _claim_statement(queue: str, has_flow_input: bool, has_headers: bool) -> str:
    return (
        sql.SQL(_CLAIM)
        .format(
            queue=sql.Identifier(f"q_{queue}"),
            flow_input=sql.SQL("s.flow_input::text" if has_flow_input else "null"),
            headers=sql.SQL(_HEADERS if has_headers else "null::jsonb"),
            version=sql.SQL(VERSION),
            wired=sql.SQL(_WIRED.format(worker="%(worker)s", queue="%(queue)s")),
        )
        .as_string()
    )


def _unwired(slug: str) -> UnknownFlowError:
    return UnknownFlowError(f"flow {slug!r} or its worker is in the database no more: was pgflow installed anew?")


def _claimed(conn: Connection, statement: str, parameters: dict[str, Any]) -> list[Any]:
    """The claim's rows; tried again when it met a task newer than itself.

    Such a task was sent by a transaction that began after the claim's did and was done before the claim read. pgflow's
    check that tasks are queued before they are started, by their transactions' times, then undoes the claim.
    """
    tries = 5
    while True:
        tries -= 1
        try:
            return conn.execute(statement, parameters).fetchall()
        except psycopg.errors.CheckViolation:
            if not tries:
                raise
