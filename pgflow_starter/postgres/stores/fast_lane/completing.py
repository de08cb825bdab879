"""Completing: the outputs of many tasks are written, and what follows from them for steps, runs and queues.

A row changes once in a statement. So what several outcomes of one run come to together is found first, and each row is
given its last state: a step's counter goes down by all its tasks that are done, a child's by all the parents that are,
and it starts in the same change; the run's counter goes down by its steps, and it ends in that. Events are sent in the
order in which the core would have come to them.
"""

from __future__ import annotations

from pgflow_starter.postgres.stores.fast_lane.known_cores import GUARD
from pgflow_starter.postgres.stores.free_runs import IS_FREE

# Rows are looked up by their keys, whatever the planner knows of their tables: indexes of all that is started hold what
# was, too, until they are vacuumed. So the keys are there before the row is looked for, and a status is not for these.
# `common` are the runs whose outcomes need nothing but this. What is not: an output that a map cannot take, an empty
# array for one, a step or task that is not started, a task twice, a step that could have started before, a step whose
# turn has come and that has a condition.
COMPLETE = f"""
with outcome as materialized (
    select o.run_id, o.step_slug, o.task_index, o.output::jsonb as output, o.n, r.flow_slug
    from unnest(%(runs)s::uuid[], %(steps)s::text[], %(indexes)s::integer[], %(texts)s::text[])
         with ordinality as o(run_id, step_slug, task_index, output, n)
    join pgflow.runs r on r.run_id = o.run_id
    where {IS_FREE}
), unchanged as materialized (
    select {GUARD} as yes
), step as materialized (
    select o.run_id, o.step_slug, s.flow_slug, p.step_type, count(*) as ended, max(o.n) as n,
           s.status, s.remaining_tasks, s.initial_tasks,
           pg_catalog.count(distinct o.task_index) as tasks,
           (pg_catalog.array_agg(o.output order by o.n))[1] as output
    from outcome o
    join pgflow.step_states s on s.run_id = o.run_id and s.step_slug = o.step_slug
    join pgflow.steps p on p.flow_slug = s.flow_slug and p.step_slug = s.step_slug
    group by 1, 2, 3, 4, 7, 8, 9
), ended as materialized (
    select * from step where remaining_tasks = ended
), child as materialized (
    select e.run_id, d.step_slug, e.flow_slug, p.step_type, count(*) as deps, max(e.n) as n, s.remaining_deps, s.status,
           coalesce(p.opt_start_delay, 0) as delay,
           count(*) = s.remaining_deps and bool_or({{has_condition}}) as conditional,
           case when s.initial_tasks is not null or p.step_type <> 'map' then s.initial_tasks
                else max(case when e.step_type = 'map' then e.initial_tasks
                              when jsonb_typeof(e.output) = 'array' then jsonb_array_length(e.output) end) end as tasks
    from ended e
    join pgflow.deps d on d.flow_slug = e.flow_slug and d.dep_slug = e.step_slug
    join pgflow.steps p on p.flow_slug = d.flow_slug and p.step_slug = d.step_slug
    join lateral (select s.* from pgflow.step_states s
                  where s.run_id = e.run_id and s.step_slug = d.step_slug offset 0) s on true
    group by e.run_id, d.step_slug, e.flow_slug, p.step_type, s.remaining_deps, s.status, s.initial_tasks,
             p.opt_start_delay
), common as materialized (
    select r.run_id, r.flow_slug, r.remaining_steps
    from (select distinct run_id from outcome) g
    join lateral (select r.* from pgflow.runs r where r.run_id = g.run_id offset 0) r on true
    where r.status = 'started' and (select yes from unchanged)
      and not exists (select from step s where s.run_id = r.run_id
                      and (s.status <> 'started' or s.tasks <> s.ended or s.ended > s.remaining_tasks))
      and not exists (select from child c where c.run_id = r.run_id
                      and (c.status <> 'created' or c.tasks is null or c.tasks = 0 or c.deps > c.remaining_deps
                           or c.conditional))
      and not exists (select from outcome o where o.run_id = r.run_id and coalesce((
                          select t.status from pgflow.step_tasks t where t.run_id = o.run_id
                          and t.step_slug = o.step_slug and t.task_index = o.task_index), '') <> 'started')
      and not exists (select from pgflow.step_states s where s.run_id = r.run_id and s.status = 'created'
                      and s.remaining_deps = 0)
), task as (
    update pgflow.step_tasks t set status = 'completed', completed_at = now(), output = o.output
    from outcome o, common r
    where o.run_id = r.run_id and t.run_id = o.run_id and t.step_slug = o.step_slug and t.task_index = o.task_index
      and coalesce(t.status, '') = 'started'
    returning t.run_id, t.message_id, o.n
), result as materialized (
    select e.run_id, e.step_slug, e.n, e.step_type,
           case when e.step_type = 'map' then
               (select pg_catalog.jsonb_agg(a.output order by a.task_index)
                from (select t.task_index, t.output from pgflow.step_tasks t
                      where t.run_id = e.run_id and t.step_slug = e.step_slug and t.status = 'completed'
                      union all
                      select o.task_index, o.output from outcome o
                      where o.run_id = e.run_id and o.step_slug = e.step_slug) a)
           else e.output end as output
    from ended e join common using (run_id)
), state as (
    update pgflow.step_states s
    set remaining_tasks = s.remaining_tasks - e.ended,
        status = case when e.remaining_tasks = e.ended then 'completed' else 'started' end,
        {{keeps_output}}completed_at = case when e.remaining_tasks = e.ended then now() end
    from step e left join result d on d.run_id = e.run_id and d.step_slug = e.step_slug, common r
    where e.run_id = r.run_id and s.run_id = e.run_id and s.step_slug = e.step_slug
      and s.remaining_tasks = e.remaining_tasks and s.status = 'started'
    returning s.run_id
), child_state as (
    update pgflow.step_states s
    set remaining_deps = s.remaining_deps - c.deps,
        initial_tasks = c.tasks,
        status = case when c.deps = c.remaining_deps then 'started' else s.status end,
        started_at = case when c.deps = c.remaining_deps then now() else s.started_at end,
        remaining_tasks = case when c.deps = c.remaining_deps then c.tasks else s.remaining_tasks end
    from child c, common r
    where c.run_id = r.run_id and s.run_id = c.run_id and s.step_slug = c.step_slug
      and s.remaining_deps = c.remaining_deps and s.status = 'created'
    returning s.run_id
), run_end as materialized (
    select r.run_id, r.flow_slug, max(e.n) as n,
           (select pg_catalog.jsonb_object_agg(l.step_slug, l.output)
            from (select s.step_slug,
                         case when d.run_id is not null then d.output else {{kept_output}} end as output
                  from pgflow.step_states s
                  join pgflow.steps p on p.flow_slug = s.flow_slug and p.step_slug = s.step_slug
                  left join result d on d.run_id = s.run_id and d.step_slug = s.step_slug
                  where s.run_id = r.run_id and (s.status = 'completed' or d.run_id is not null)
                    and not exists (select from pgflow.deps x where x.flow_slug = s.flow_slug
                                    and x.dep_slug = s.step_slug)) l) as output
    from common r join ended e using (run_id)
    group by r.run_id, r.flow_slug, r.remaining_steps
    having count(*) = r.remaining_steps
), run as (
    update pgflow.runs r
    set remaining_steps = r.remaining_steps - e.steps,
        status = case when f.run_id is null then r.status else 'completed' end,
        completed_at = case when f.run_id is null then r.completed_at else now() end,
        output = case when f.run_id is null then r.output else f.output end
    from (select run_id, count(*) as steps from ended join common using (run_id) group by 1) e
    left join run_end f on f.run_id = e.run_id
    where r.run_id = e.run_id
    returning r.run_id
), started as materialized (
    select c.* from child c join common using (run_id) where c.deps = c.remaining_deps
), new as materialized (
    select t.*, row_number() over (partition by t.batch order by t.n, t.step_slug, t.task_index) as i
    from (select s.flow_slug, s.run_id, s.step_slug, s.n, s.delay, task_index,
                 case when (select pg_catalog.count(distinct delay) from started) > 1
                      then pg_catalog.dense_rank() over (order by s.n, s.step_slug) else 0 end as batch
          from started s, generate_series(0, s.tasks - 1) task_index) t
), {{carried}}sent as materialized (
    select b.batch, m.i, m.msg_id
    from (select batch, flow_slug, delay, pg_catalog.array_agg(pg_catalog.jsonb_build_object(
              'flow_slug', flow_slug, 'run_id', run_id, 'step_slug', step_slug, 'task_index', task_index)
              order by i) as messages{{headers}}
          from new{{by_run}} group by batch, flow_slug, delay order by batch) b,
         lateral pgmq.send_batch(b.flow_slug, b.messages, {{with_headers}}b.delay) with ordinality as m(msg_id, i)
), new_task as (
    insert into pgflow.step_tasks (flow_slug, run_id, step_slug, task_index, message_id)
    select n.flow_slug, n.run_id, n.step_slug, n.task_index, s.msg_id from new n join sent s using (batch, i)
), event as materialized (
    select e.n, 1 as k, e.run_id, e.step_slug,
           pg_catalog.jsonb_build_object('event_type', 'step:completed', 'run_id', e.run_id, 'step_slug', e.step_slug,
               'status', 'completed', 'output', e.output, 'completed_at', now()) as payload,
           pg_catalog.concat('step:', e.step_slug, ':completed') as name
    from result e
    union all
    select s.n, 2, s.run_id, s.step_slug,
           pg_catalog.jsonb_build_object('event_type', 'step:started', 'run_id', s.run_id, 'step_slug', s.step_slug,
               'status', 'started', 'started_at', now(), 'remaining_tasks', s.tasks, 'remaining_deps', 0),
           pg_catalog.concat('step:', s.step_slug, ':started')
    from started s
    union all
    select f.n, 3, f.run_id, '',
           pg_catalog.jsonb_build_object('event_type', 'run:completed', 'run_id', f.run_id, 'flow_slug', f.flow_slug,
               'status', 'completed', 'output', f.output, 'completed_at', now()),
           'run:completed'
    from run_end f
), told as materialized (
    select count(*) as n from (
        select realtime.send(e.payload, e.name, pg_catalog.concat('pgflow:run:', e.run_id), false)
        from (select * from event order by n, k, step_slug) e) x
), archived as materialized (
    select pgmq.archive(%(queue)s::text, m.ids)
    from (select pg_catalog.array_agg(message_id order by n) as ids from task where message_id is not null) m
    where m.ids is not null
)
select (select pg_catalog.array_agg(run_id) from common), (select yes from unchanged),
       case when (select count(*) from task) = (select count(*) from outcome join common using (run_id))
             and (select count(*) from state) = (select count(*) from step join common using (run_id))
             and (select count(*) from child_state) = (select count(*) from child join common using (run_id))
             and (select count(*) from run)
                 = (select pg_catalog.count(distinct run_id) from ended join common using (run_id))
            then (select n from told) else pg_catalog.concat('changed meanwhile', (select n from told))::integer end,
       (select count(*) from archived)
"""  # noqa: S608 - constants
"""The runs that it completed tasks of, all of their outcomes here; those that are not among them are left as they were.

To be put into a `Dialect`, and into how it is `SENT`. Raises psycopg's DataError where a row has changed in spite of
the lock on its run.
"""

SENT = {"carried": "", "headers": "", "by_run": "", "with_headers": ""}
"""How messages are sent that carry nothing."""

SENT_ON = {
    "carried": """carried as materialized (
    select c.run_id, c.headers::jsonb as headers
    from unnest(%(carried_runs)s::uuid[], %(carried)s::text[]) as c(run_id, headers)
), """,
    "headers": ",\n              pg_catalog.array_agg(headers order by i) as headers",
    "by_run": " left join carried using (run_id)",
    "with_headers": "b.headers, ",
}
"""The same of those that carry what their run has, where it has something."""
