"""Claiming: messages are read and their tasks started, by one statement.

What sees a message sees its task. Tasks are found by what the messages say, and are theirs only where they say the same
of the message. What is not found so, or not to be started so, is left as it was, but for its message, which was read.

Inputs are handed over as newer cores do it, whatever the core. An array is unpacked, or put together, once a batch for
all the elements of it that are claimed; an element of what came of another map is the output of the task of its index.
"""

from __future__ import annotations

from functools import cache

from psycopg import sql

from pgflow_starter.postgres.stores.fast_lane.dialects import Dialect
from pgflow_starter.postgres.stores.fast_lane.known_cores import GUARD
from pgflow_starter.postgres.stores.fast_lane.shape import Shape
from pgflow_starter.postgres.stores.features import Features
from pgflow_starter.postgres.stores.inputs import VERSION
from pgflow_starter.postgres.stores.next_message import visible_in
from pgflow_starter.postgres.stores.worker_rows import WIRED

# Locks as the core's function does, which may be at it at the same time: the messages, then their tasks in the order of
# the messages. No two readers have the same ones, for who reads passes over the messages that are locked. Who ends a
# run may have a task and want its message: then this gives up first, for it waits for a lock shorter than the server
# takes to look for deadlocks, and all is claimed once more without what is locked.
#
# `task` are those that are common. What is not: one that has its message with another, or whose run or step is over.
# Each row is looked up by its key, whatever the planner takes the tables and the batch to be: there are indexes of what
# is queued, in which a map has thousands. A task is updated where it was found; if it is not there any more, somebody
# else has had it.
CLAIM = """
with unchanged as materialized (
    select {guard} as yes
), free as materialized (
    select q.msg_id, q.message, q.vt, {headers} as headers from pgmq.{queue} q
    where (select yes from unchanged) and q.vt <= clock_timestamp()
    order by q.msg_id limit %(quantity)s::integer for update skip locked
), task as materialized (
    select m.msg_id, m.headers, m.vt, t.tid, t.run_id, t.step_slug, t.task_index, p.step_type, p.deps_count, r.input,
           r.version
    from (select msg_id, headers, vt, message ->> 'step_slug'::text as step_slug,
                 (case when message ->> 'run_id'::text ~ '^[0-9a-f]{{8}}(-[0-9a-f]{{4}}){{3}}-[0-9a-f]{{12}}$'::text
                       then message ->> 'run_id'::text end)::uuid as run_id,
                 (case when message ->> 'task_index'::text ~ '^[0-9]+$'::text
                            and pg_catalog.length(message ->> 'task_index'::text) < 10
                       then message ->> 'task_index'::text end)::integer as task_index
          from free order by msg_id) m,
         lateral (select t.ctid as tid, t.* from pgflow.step_tasks t
                  where t.run_id = m.run_id and t.step_slug = m.step_slug and t.task_index = m.task_index offset 0) t,
         lateral (select r.status, r.input, {version} as version from pgflow.runs r
                  where r.run_id = t.run_id offset 0) r,
         lateral (select p.step_type, p.deps_count from pgflow.steps p
                  where p.flow_slug = t.flow_slug and p.step_slug = t.step_slug offset 0) p{step_goes_on}
    where t.message_id = m.msg_id and t.flow_slug = %(queue)s::text{only}
      and t.status = 'queued' and r.status = 'started'
      and (select count(*) from (select o.flow_slug, o.status from pgflow.step_tasks o
                                 where o.message_id = m.msg_id offset 0) o
           where o.flow_slug = %(queue)s::text and o.status = 'queued') = 1
), started as (
    update pgflow.step_tasks t
    set status = 'started', attempts_count = t.attempts_count + 1, started_at = now(),
        last_worker_id = %(worker)s::uuid
    from task k where t.ctid = k.tid and coalesce(t.status, '') = 'queued'
    returning k.*, t.attempts_count
), message as (
    update pgmq.{queue} q
    set vt = clock_timestamp() + pg_catalog.make_interval(secs => {vt}), read_ct = q.read_ct + 1{dated}
    where q.msg_id = any(array(select msg_id from free))
){inputs}
select (select yes from unchanged), m.n,
       {visible_in},
       s.run_id is not null or {wired},
       case when m.n <> (select count(*) from started) then m.ids end,
       case when m.n <> (select count(*) from started)
            then coalesce((select pg_catalog.jsonb_object_agg(msg_id, headers) filter (where headers is not null)
                           from free), '{{}}')::text else '{{}}' end,
       s.run_id, s.step_slug, s.task_index, s.msg_id, {input}, {flow_input}, s.attempts_count, s.headers::text,
       s.version,
       case when s.headers is not null
            then (extract(epoch from clock_timestamp()) - extract(epoch from s.vt))::float8 end
from (select count(*) as n, pg_catalog.array_agg(msg_id) as ids from free) m
left join started s on true{given}
order by s.msg_id
"""
"""Whether the core is as it was, without which nothing is done, and the columns of a claim by the core's function; the
headers of all that was read are told where something of it is left."""

_ROOTS_ONLY = " and p.step_type <> 'map' and p.deps_count = 0"
# `parent` is what came of the steps that some of the tasks are given; the array of a map is taken out of its row, and
# unpacked, once.
_INPUTS = """, parent as materialized (
    select c.run_id, c.dep_slug, c.step_type, o.output
    from (select distinct s.run_id, d.dep_slug, p.step_type
          from started s
          join pgflow.deps d on d.flow_slug = %(queue)s::text and d.step_slug = s.step_slug
          join pgflow.steps p on p.flow_slug = d.flow_slug and p.step_slug = d.dep_slug
          where s.deps_count > 0 and (s.step_type <> 'map' or p.step_type <> 'map')) c,
         lateral (select {output_of}) o
), given as materialized (
    select s.run_id, s.step_slug, pg_catalog.jsonb_object_agg(p.dep_slug, p.output)::text as input
    from started s
    join pgflow.deps d on d.flow_slug = %(queue)s::text and d.step_slug = s.step_slug
    join parent p on p.run_id = s.run_id and p.dep_slug = d.dep_slug
    where s.step_type <> 'map'
    group by s.run_id, s.step_slug
), element as materialized (
    select a.run_id, a.step_slug, i.task_index, (a.items -> i.task_index)::text as input
    from (select k.run_id, k.step_slug, k.indexes,
                 case when k.deps_count = 0 then r.input else p.output end #> '{{}}'::text[] as items
          from (select run_id, step_slug, deps_count, pg_catalog.array_agg(task_index) as indexes
                from started where step_type = 'map' group by run_id, step_slug, deps_count) k
          join pgflow.runs r on r.run_id = k.run_id
          left join pgflow.deps d on d.flow_slug = %(queue)s::text and d.step_slug = k.step_slug
          left join parent p on p.run_id = k.run_id and p.dep_slug = d.dep_slug and p.step_type <> 'map'
          where k.deps_count = 0 or p.run_id is not null
          offset 0) a,
         pg_catalog.unnest(a.indexes) as i(task_index)
    union all
    select s.run_id, s.step_slug, s.task_index, coalesce(t.output, 'null')::text
    from started s
    join pgflow.deps d on d.flow_slug = %(queue)s::text and d.step_slug = s.step_slug
    join pgflow.steps p on p.flow_slug = d.flow_slug and p.step_slug = d.dep_slug and p.step_type = 'map',
         lateral (select t.* from pgflow.step_tasks t where t.run_id = s.run_id and t.step_slug = d.dep_slug
                  and t.task_index = s.task_index offset 0) t
    where s.step_type = 'map' and t.status = 'completed'
)
"""
_GIVEN = """
    left join given g on g.run_id = s.run_id and g.step_slug = s.step_slug
    left join element e on e.run_id = s.run_id and e.step_slug = s.step_slug and e.task_index = s.task_index
"""
_INPUT = "case when s.step_type = 'map' then e.input else coalesce(g.input, '{}') end"
# Once a run where it is short; else it is asked for where it is not known.
_FLOW_INPUT = """
           case when s.step_type <> 'map' and s.deps_count = 0
                     or pg_catalog.pg_column_size(s.input) < 2000
                        and row_number() over (partition by s.run_id order by s.msg_id) = 1
                then s.input::text end"""
_VT_OF_STEP = """
        coalesce((%(vts)s::integer[])[pg_catalog.array_position(%(steps)s::text[],
            (select s.step_slug from started s where s.msg_id = q.msg_id))], %(vt)s::integer)"""


@cache
def claim_of(queue: str, features: Features, dialect: Dialect, shape: Shape) -> str:
    """`CLAIM` for the queue of such a flow, on a core of that dialect."""
    inputs = sql.SQL(_INPUTS).format(output_of=sql.SQL(dialect.output_of))
    return (
        sql.SQL(CLAIM)
        .format(
            queue=sql.Identifier(f"q_{queue}"),
            visible_in=visible_in(queue),
            vt=sql.SQL("%(vt)s::integer" if shape.one_vt else _VT_OF_STEP),
            dated=sql.SQL(", last_read_at = clock_timestamp()" if features.dates_reads else ""),
            headers=sql.SQL("q.headers" if features.headers else "null::jsonb"),
            guard=sql.SQL(GUARD),
            version=sql.SQL(VERSION),
            step_goes_on=sql.SQL(dialect.step_goes_on),
            only=sql.SQL(_ROOTS_ONLY if shape.roots else ""),
            inputs=sql.SQL("") if shape.roots else inputs,
            input=sql.SQL("'{}'" if shape.roots else _INPUT),
            flow_input=sql.SQL("s.input::text" if shape.roots else _FLOW_INPUT),
            given=sql.SQL("" if shape.roots else _GIVEN),
            wired=sql.SQL(WIRED.format(worker="%(worker)s::uuid", flow="%(queue)s::text", queue="%(queue)s::text")),
        )
        .as_string()
    )
