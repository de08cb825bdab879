"""A run that goes on is made to fail: the rows, events and archive of one of which a task failed for good.

The core's own `fail_task` does it, by a task that is open. Where that would let the run go on, for the step is skipped
then, and where no task is open, these statements do what it does.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from pgflow_starter.errors import PgflowError
from pgflow_starter.postgres.connections.connection import Connection
from pgflow_starter.postgres.stores.features import detect, queue_column

_LOCK = "select from pgflow.runs r where r.run_id = %s::uuid for update"
_STATUS = "select r.status from pgflow.runs r where r.run_id = %s::uuid"
# A statement of its own, after the lock. One that was started first began before this transaction, most likely: the
# time at which it fails is the transaction's, and no table takes one that is before its beginning.
_OPEN = """
with chosen as materialized (
    select t.step_slug, t.task_index, t.attempts_count,
           greatest(t.attempts_count, coalesce(p.opt_max_attempts, f.opt_max_attempts)) as most
    from pgflow.step_tasks t
    join pgflow.runs r on r.run_id = t.run_id and r.status = 'started'
    join pgflow.step_states s on s.run_id = t.run_id and s.step_slug = t.step_slug and s.status = 'started'
    join pgflow.steps p on p.flow_slug = t.flow_slug and p.step_slug = t.step_slug
    join pgflow.flows f on f.flow_slug = t.flow_slug
    where t.run_id = %s::uuid and t.status in ('queued', 'started')
      and coalesce(pg_catalog.to_jsonb(p) ->> 'when_exhausted'::text, 'fail') = 'fail'
    order by t.started_at, t.queued_at, p.step_index, t.task_index limit 1
)
update pgflow.step_tasks t set status = 'started', attempts_count = c.most
from chosen c
where t.run_id = %s::uuid and t.step_slug = c.step_slug and t.task_index = c.task_index
  and t.status in ('queued', 'started')
returning t.step_slug, t.task_index, c.attempts_count
"""
_FAIL = "select count(*) from pgflow.fail_task(%s::uuid, %s::text, %s::integer, %s::text)"
# What it has had, and not what made `fail_task` fail it for good.
_RESTORE = """
update pgflow.step_tasks t set attempts_count = %s::integer
where t.run_id = %s::uuid and t.step_slug = %s::text and t.task_index = %s::integer and t.status = 'failed'
"""
_FAIL_RUN = """
with open as materialized (
    select t.step_slug, t.task_index, t.message_id, {queue} as queue,
           s.status = 'started' and row_number() over (
               partition by s.status = 'started' order by t.started_at, t.queued_at, p.step_index, t.task_index
           ) = 1 as fails
    from pgflow.step_tasks t
    join pgflow.step_states s on s.run_id = t.run_id and s.step_slug = t.step_slug
    join pgflow.steps p on p.flow_slug = t.flow_slug and p.step_slug = t.step_slug
    where t.run_id = %(run)s::uuid and t.status in ('queued', 'started')
), step as materialized (
    select s.step_slug from pgflow.step_states s
    join pgflow.steps p on p.flow_slug = s.flow_slug and p.step_slug = s.step_slug
    left join open o on o.step_slug = s.step_slug and o.fails
    where s.run_id = %(run)s::uuid and s.status in ('created', 'started')
    order by o.fails, s.started_at, p.step_index limit 1
), task as (
    update pgflow.step_tasks t
    set status = case when o.fails then 'failed' else 'cancelled' end,
        failed_at = case when o.fails then now() else t.failed_at end,
        error_message = case when o.fails then %(text)s::text else t.error_message end
    from open o
    where t.run_id = %(run)s::uuid and t.step_slug = o.step_slug and t.task_index = o.task_index
      and t.status in ('queued', 'started') and (o.fails or {cancels})
), state as (
    update pgflow.step_states s set status = 'failed', failed_at = now(), error_message = %(text)s::text
    from step where s.run_id = %(run)s::uuid and s.step_slug = step.step_slug
), run as (
    update pgflow.runs r set status = 'failed', failed_at = now()
    where r.run_id = %(run)s::uuid and r.status = 'started'
    returning r.flow_slug
), event as materialized (
    select 1 as n, pg_catalog.concat('step:', step.step_slug, ':failed') as name, pg_catalog.jsonb_build_object(
               'event_type', 'step:failed', 'run_id', %(run)s::uuid, 'step_slug', step.step_slug,
               'status', 'failed', 'error_message', %(text)s::text, 'failed_at', now()) as payload
    from step, run
    union all
    select 2, 'run:failed', pg_catalog.jsonb_build_object(
               'event_type', 'run:failed', 'run_id', %(run)s::uuid, 'flow_slug', run.flow_slug,
               'status', 'failed', 'error_message', %(text)s::text, 'failed_at', now())
    from run
), told as materialized (
    select count(*) as n from (
        select realtime.send(e.payload, e.name, pg_catalog.concat('pgflow:run:', %(run)s::uuid), false)
        from (select * from event order by n) e) x
), archived as materialized (
    select count(*) as n from (
        select pgmq.archive(m.queue, m.ids)
        from (select o.queue, pg_catalog.array_agg(o.message_id order by o.message_id) as ids
              from open o where o.message_id is not null group by o.queue) m) x
)
select told.n, archived.n from told, archived
"""


def fail_run(conn: Connection, run_id: UUID, text: str) -> None:
    """A run that is there and has not ended fails, for that.

    Within the caller's transaction, which locks the run first. Blocks on I/O. Raises psycopg's errors, CheckViolation
    where a task began after this transaction: in another one it will not have; PgflowError where the run's row cannot
    be changed, NotInstalledError.
    """
    with conn.pipeline():
        conn.execute(_LOCK, (run_id,))
        opened: Any = conn.execute(_OPEN, (run_id, run_id))
    if (task := opened.fetchone()) is not None:
        step, index, attempts = task
        with conn.pipeline():
            conn.execute(_FAIL, (run_id, step, index, text))
            conn.execute(_RESTORE, (attempts, run_id, step, index))
    status: Any = conn.execute(_STATUS, (run_id,)).fetchone()
    if status == ("started",):
        features = detect(conn)
        statement = _FAIL_RUN.format(queue=queue_column(features), cancels=features.cancels)
        told: Any = conn.execute(statement, {"run": run_id, "text": text}).fetchone()
        if not told[0]:
            msg = f"the row of run {run_id} does not change: see row level security and triggers of pgflow.runs"
            raise PgflowError(msg)
