"""Failing: tasks that are to be tried again go back into the queue, and a job's run ends with its task."""

from __future__ import annotations

from pgflow_starter.postgres.stores.fast_lane.known_cores import GUARD
from pgflow_starter.postgres.stores.free_runs import IS_FREE

# `common` as in `COMPLETE`. What is not: failing for good in anything but a job, one that is skipped then, and what an
# attempt came to that another has followed.
FAIL = f"""
with outcome as materialized (
    select o.run_id, o.step_slug, o.task_index, o.error, o.n, o.attempt, r.flow_slug, t.attempts_count, t.message_id,
           coalesce(p.opt_max_attempts, f.opt_max_attempts) as attempts,
           coalesce(p.opt_base_delay, f.opt_base_delay) as base_delay,
           coalesce(r.status = 'started' and t.status = 'started' and s.status = 'started', false) as started,
           count(*) over (partition by o.run_id, o.step_slug, o.task_index) as times,
           (select count(*) from pgflow.steps x where x.flow_slug = r.flow_slug) = 1 and p.step_type = 'single'
               and {{fails_at_last}} as job
    from unnest(%(runs)s::uuid[], %(steps)s::text[], %(indexes)s::integer[], %(texts)s::text[],
                %(attempts)s::integer[])
         with ordinality as o(run_id, step_slug, task_index, error, attempt, n)
    join pgflow.runs r on r.run_id = o.run_id
    join pgflow.flows f on f.flow_slug = r.flow_slug
    left join pgflow.steps p on p.flow_slug = r.flow_slug and p.step_slug = o.step_slug
    left join pgflow.step_states s on s.run_id = o.run_id and s.step_slug = o.step_slug
    left join pgflow.step_tasks t
        on t.run_id = o.run_id and t.step_slug = o.step_slug and t.task_index = o.task_index
    where {IS_FREE}
), unchanged as materialized (
    select {GUARD} as yes
), common as materialized (
    select run_id from outcome where (select yes from unchanged) group by run_id
    having bool_and(started and times = 1 and attempts_count <= attempt and (attempts_count < attempts or job))
), todo as materialized (
    select o.*, o.attempts_count >= o.attempts as for_good from outcome o join common using (run_id)
), task as (
    update pgflow.step_tasks t
    set status = case when o.for_good then 'failed' else 'queued' end,
        failed_at = case when o.for_good then now() end,
        started_at = case when o.for_good then t.started_at end,
        error_message = o.error
    from todo o
    where t.run_id = o.run_id and t.step_slug = o.step_slug and t.task_index = o.task_index
      and coalesce(t.status, '') = 'started' and t.attempts_count = o.attempts_count
    returning t.run_id
), state as (
    update pgflow.step_states s set status = 'failed', failed_at = now(), error_message = o.error
    from todo o where o.for_good and s.run_id = o.run_id and s.step_slug = o.step_slug and s.status = 'started'
    returning s.run_id
), run as (
    update pgflow.runs r set status = 'failed', failed_at = now()
    from todo o where o.for_good and r.run_id = o.run_id and coalesce(r.status, '') = 'started'
    returning r.run_id
), event as materialized (
    select o.n, 1 as k, o.run_id,
           pg_catalog.jsonb_build_object('event_type', 'step:failed', 'run_id', o.run_id, 'step_slug', o.step_slug,
               'status', 'failed', 'error_message', o.error, 'failed_at', now()) as payload,
           pg_catalog.concat('step:', o.step_slug, ':failed') as name
    from todo o where o.for_good
    union all
    select o.n, 2, o.run_id,
           pg_catalog.jsonb_build_object('event_type', 'run:failed', 'run_id', o.run_id, 'flow_slug', o.flow_slug,
               'status', 'failed', 'error_message', o.error, 'failed_at', now()),
           'run:failed'
    from todo o where o.for_good
), told as materialized (
    select count(*) as n from (
        select realtime.send(e.payload, e.name, pg_catalog.concat('pgflow:run:', e.run_id), false)
        from (select * from event order by n, k) e) x
), retried as materialized (
    select count(*) as n from (
        select pgmq.set_vt(o.flow_slug, o.message_id, pgflow.calculate_retry_delay(o.base_delay, o.attempts_count))
        from (select * from todo where not for_good order by n) o) x
), archived as materialized (
    select pgmq.archive(%(queue)s::text, m.ids)
    from (select pg_catalog.array_agg(message_id order by n) as ids from todo
          where for_good and message_id is not null) m
    where m.ids is not null
)
select (select pg_catalog.array_agg(run_id) from common), (select yes from unchanged),
       case when (select count(*) from task) = (select count(*) from todo)
             and (select count(*) from state) = (select count(*) from todo where for_good)
             and (select count(*) from run) = (select count(*) from todo where for_good)
            then (select n from told) else pg_catalog.concat('changed meanwhile', (select n from told))::integer end,
       (select n from retried), (select count(*) from archived)
"""  # noqa: S608 - constants
"""As `COMPLETE`, of outcomes that are failures."""
