"""Starting: runs of one flow with their first steps, tasks and messages."""

from __future__ import annotations

from pgflow_starter.postgres.stores.fast_lane.known_cores import GUARD

# `common`: what is not is a run that is there already, and one with a root map that has no array or an empty one.
START = f"""
with step as materialized (
    select s.flow_slug, s.step_slug, s.step_type, s.deps_count, coalesce(s.opt_start_delay, 0) as delay
    from pgflow.steps s where s.flow_slug = %(slug)s::text
), given as materialized (
    select g.run_id, g.input::jsonb as input, g.n
    from unnest(%(run_ids)s::uuid[], %(inputs)s::text[]) with ordinality g(run_id, input, n)
), common as materialized (
    select g.* from given g
    where exists (select from step) and {GUARD}
      and not exists (select from pgflow.runs r where r.run_id = g.run_id)
      and not exists (select from step s where s.step_type = 'map' and s.deps_count = 0
                      and case when jsonb_typeof(g.input) = 'array' then jsonb_array_length(g.input) = 0 else true end)
), run as (
    insert into pgflow.runs (run_id, flow_slug, input, remaining_steps)
    select c.run_id, %(slug)s::text, c.input, (select count(*) from step) from common c order by c.n
    returning *
), state as materialized (
    select c.run_id, c.n, s.step_slug, s.deps_count, s.delay,
           case when s.step_type <> 'map' then 1 when s.deps_count = 0 then jsonb_array_length(c.input) end as tasks
    from common c, step s
), state_row as (
    insert into pgflow.step_states
        (flow_slug, run_id, step_slug, remaining_deps, initial_tasks, status, started_at, remaining_tasks)
    select %(slug)s::text, run_id, step_slug, deps_count, tasks,
           case when deps_count = 0 then 'started' else 'created' end,
           case when deps_count = 0 then now() end,
           case when deps_count = 0 then tasks end
    from state
), task as materialized (
    select t.*, row_number() over (partition by t.batch order by t.n, t.step_slug, t.task_index) as i
    from (select s.run_id, s.n, s.step_slug, s.delay, task_index,
                 case when (select pg_catalog.count(distinct delay) from state where deps_count = 0) > 1
                      then pg_catalog.dense_rank() over (order by s.n, s.step_slug) else 0 end as batch
          from state s, generate_series(0, s.tasks - 1) task_index where s.deps_count = 0) t
), sent as materialized (
    select b.batch, m.i, m.msg_id
    from (select batch, delay, pg_catalog.array_agg(pg_catalog.jsonb_build_object(
              'flow_slug', %(slug)s::text, 'run_id', run_id, 'step_slug', step_slug, 'task_index', task_index)
              order by i) as messages
          from task group by batch, delay order by batch) b,
         lateral pgmq.send_batch(%(slug)s::text, b.messages, b.delay) with ordinality as m(msg_id, i)
), new_task as (
    insert into pgflow.step_tasks (flow_slug, run_id, step_slug, task_index, message_id)
    select %(slug)s::text, t.run_id, t.step_slug, t.task_index, s.msg_id from task t join sent s using (batch, i)
), event as materialized (
    select c.n, 1 as k, c.run_id, '' as step_slug,
           pg_catalog.jsonb_build_object('event_type', 'run:started', 'run_id', c.run_id, 'flow_slug', %(slug)s::text,
               'input', c.input, 'status', 'started', 'remaining_steps', (select count(*) from step),
               'started_at', now()) as payload,
           'run:started' as name
    from common c
    union all
    select s.n, 2, s.run_id, s.step_slug,
           pg_catalog.jsonb_build_object('event_type', 'step:started', 'run_id', s.run_id, 'step_slug', s.step_slug,
               'status', 'started', 'started_at', now(), 'remaining_tasks', s.tasks, 'remaining_deps', 0),
           pg_catalog.concat('step:', s.step_slug, ':started')
    from state s where s.deps_count = 0
), told as materialized (
    select count(*) as n from (
        select realtime.send(e.payload, e.name, pg_catalog.concat('pgflow:run:', e.run_id), false)
        from (select * from event order by n, k, step_slug) e) x
)
select {{columns}} from run r, told where told.n is not null
"""  # noqa: S608 - constants
"""Those that it started, as `columns` of a run `r`."""
