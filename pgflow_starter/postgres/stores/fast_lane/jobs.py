"""Jobs: flows of one step that is no map. Their statements are small, for these are what there is most of."""

from __future__ import annotations

from pgflow_starter.postgres.stores.fast_lane.known_cores import GUARD
from pgflow_starter.postgres.stores.free_runs import IS_FREE

IS_JOB = """
select count(*) = 1 and bool_and(step_type = 'single'), count(*) > 0
from pgflow.steps where flow_slug = %(slug)s::text
"""
"""Whether a flow is a job, as the statements ask again: a flow may be compiled anew; and whether it is there."""

# Left out is a run that is there already, and one whose step has a condition.
START_JOB = f"""
with run as (
    insert into pgflow.runs (run_id, flow_slug, input, remaining_steps)
    select %(run_id)s::uuid, p.flow_slug, %(input)s::text::jsonb, 1
    from pgflow.steps p
    where p.flow_slug = %(slug)s::text and p.step_type = 'single' and not {{has_condition}}
      and (select count(*) from pgflow.steps t where t.flow_slug = %(slug)s::text) = 1 and {GUARD}
    on conflict (run_id) do nothing
    returning *
), new as materialized (
    select r.run_id, r.flow_slug, r.input, s.step_slug, coalesce(s.opt_start_delay, 0) as delay,
           pg_catalog.concat('pgflow:run:', r.run_id) as topic
    from run r join pgflow.steps s using (flow_slug)
), state as (
    insert into pgflow.step_states
        (flow_slug, run_id, step_slug, remaining_deps, initial_tasks, status, started_at, remaining_tasks)
    select flow_slug, run_id, step_slug, 0, 1, 'started', now(), 1 from new
), sent as (
    insert into pgmq.{{queue}} (vt, message)
    select clock_timestamp() + pg_catalog.make_interval(secs => n.delay), pg_catalog.jsonb_build_object(
        'flow_slug', n.flow_slug, 'run_id', n.run_id, 'step_slug', n.step_slug, 'task_index', 0)
    from new n
    returning msg_id
), task as (
    insert into pgflow.step_tasks (flow_slug, run_id, step_slug, task_index, message_id)
    select n.flow_slug, n.run_id, n.step_slug, 0, m.msg_id from new n, sent m
), told as materialized (
    select realtime.send(pg_catalog.jsonb_build_object('event_type', 'run:started', 'run_id', n.run_id,
               'flow_slug', n.flow_slug, 'input', n.input, 'status', 'started', 'remaining_steps', 1,
               'started_at', now()), 'run:started', n.topic, false),
           realtime.send(pg_catalog.jsonb_build_object('event_type', 'step:started', 'run_id', n.run_id,
               'step_slug', n.step_slug, 'status', 'started', 'started_at', now(), 'remaining_tasks', 1,
               'remaining_deps', 0), pg_catalog.concat('step:', n.step_slug, ':started'), n.topic, false)
    from new n
)
select {{columns}} from run r where (select count(*) from told) = 1
"""  # noqa: S608 - constants
"""As `START`, for one run, on the table of its queue: as `pgmq.send`, which is planned at each call."""

COMPLETE_JOBS = f"""
with job as materialized (
    select s.flow_slug, s.step_slug from pgflow.steps s
    where s.flow_slug = %(queue)s::text and s.step_type = 'single'
      and (select count(*) from pgflow.steps t where t.flow_slug = %(queue)s::text) = 1
), unchanged as materialized (
    select {GUARD} as yes
), given as materialized (
    select o.*, count(*) over (partition by o.run_id) as times
    from unnest(%(runs)s::uuid[], %(steps)s::text[], %(indexes)s::integer[], %(texts)s::text[])
         with ordinality as o(run_id, step_slug, task_index, output, n)
    where {IS_FREE}
), outcome as materialized (
    select o.run_id, j.flow_slug, j.step_slug, o.output::jsonb as output, o.n, t.message_id,
           pg_catalog.concat('pgflow:run:', o.run_id) as topic
    from given o
    join job j using (step_slug)
    join pgflow.runs r on r.run_id = o.run_id and r.flow_slug = j.flow_slug
    join pgflow.step_states s on s.run_id = o.run_id and s.step_slug = o.step_slug
    join pgflow.step_tasks t on t.run_id = o.run_id and t.step_slug = o.step_slug and t.task_index = o.task_index
    where o.times = 1 and (select yes from unchanged)
      and r.status = 'started' and s.status = 'started' and t.status = 'started' and s.remaining_tasks = 1
), task as (
    update pgflow.step_tasks t set status = 'completed', completed_at = now(), output = o.output
    from outcome o
    where t.run_id = o.run_id and t.step_slug = o.step_slug and t.task_index = 0 and t.status = 'started'
    returning t.run_id
), state as (
    update pgflow.step_states s set status = 'completed', completed_at = now(), {{keeps_output}}remaining_tasks = 0
    from outcome d where s.run_id = d.run_id and s.step_slug = d.step_slug and s.status = 'started'
    returning s.run_id
), run as (
    update pgflow.runs r
    set status = 'completed', completed_at = now(), remaining_steps = r.remaining_steps - 1,
        output = pg_catalog.jsonb_build_object(o.step_slug, o.output)
    from outcome o where r.run_id = o.run_id and r.status = 'started'
    returning r.run_id
), told as materialized (
    select realtime.send(pg_catalog.jsonb_build_object('event_type', 'step:completed', 'run_id', o.run_id,
               'step_slug', o.step_slug, 'status', 'completed', 'output', o.output, 'completed_at', now()),
               pg_catalog.concat('step:', o.step_slug, ':completed'), o.topic, false),
           realtime.send(pg_catalog.jsonb_build_object('event_type', 'run:completed', 'run_id', o.run_id,
               'flow_slug', o.flow_slug, 'status', 'completed', 'output',
               pg_catalog.jsonb_build_object(o.step_slug, o.output), 'completed_at', now()),
               'run:completed', o.topic, false)
    from (select * from outcome order by n) o
), archived as materialized (
    select pgmq.archive(%(queue)s::text, m.ids)
    from (select pg_catalog.array_agg(message_id order by n) as ids from outcome where message_id is not null) m
    where m.ids is not null
)
select (select pg_catalog.array_agg(run_id) from outcome), (select yes from unchanged),
       case when (select count(*) from task) = (select count(*) from outcome)
             and (select count(*) from state) = (select count(*) from outcome)
             and (select count(*) from run) = (select count(*) from outcome)
            then (select count(*) from told)
            else pg_catalog.concat('changed meanwhile', (select count(*) from told))::integer end,
       (select count(*) from archived)
"""  # noqa: S608 - constants
"""As `COMPLETE`."""
