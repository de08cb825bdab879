"""Snoozing: tasks that a worker started are queued again, hidden until their time, their attempt not counted."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import groupby
from typing import Any

from pgflow_starter.core.task import Outcome
from pgflow_starter.postgres.connections.connection import Connection
from pgflow_starter.postgres.stores.features import on_queue
from pgflow_starter.postgres.stores.free_runs import columns

# The runs are locked. The vt is the message's own, whatever it was read with; told are the outcomes that were ignored,
# for the task or its step is not under way any more, with where task and run stand. One that was written before, in a
# call of which nobody heard, is not among them.
_SNOOZE = """
with given as materialized (
    select o.n, o.seconds, o.attempt, r.status as run, t.run_id, t.step_slug, t.task_index, t.status, t.attempts_count,
           t.message_id, t.status = 'started' and t.attempts_count = o.attempt
           and r.status = 'started' and s.status = 'started' as due
    from unnest(%(runs)s::uuid[], %(steps)s::text[], %(indexes)s::integer[], %(attempts)s::integer[],
                %(seconds)s::float8[]) with ordinality as o(run_id, step_slug, task_index, attempt, seconds, n)
    join pgflow.step_tasks t on t.run_id = o.run_id and t.step_slug = o.step_slug and t.task_index = o.task_index
    join pgflow.step_states s on s.run_id = o.run_id and s.step_slug = o.step_slug
    join pgflow.runs r on r.run_id = o.run_id
    order by o.run_id, o.step_slug, o.task_index
    for update of t
), snoozed as (
    update pgflow.step_tasks t
    set status = 'queued', started_at = null, attempts_count = greatest(t.attempts_count - 1, 0)
    from given g where g.due and t.run_id = g.run_id and t.step_slug = g.step_slug and t.task_index = g.task_index
), hidden as (
    update pgmq.{queue} q set vt = clock_timestamp() + pg_catalog.make_interval(secs => g.seconds)
    from given g where g.due and q.msg_id = g.message_id
)
select pg_catalog.jsonb_agg(pg_catalog.jsonb_build_array(g.n, g.status, g.run))
           filter (where not g.due and not (g.status = 'queued' and g.attempts_count = g.attempt - 1))
from given g
"""


def snooze(
    conn: Connection, outcomes: Sequence[Outcome], free: Collection[str], now: float
) -> list[tuple[Sequence[Outcome], Any]]:
    """Write those whose runs are `free`, in the transaction that has these locked; what was ignored, of each part.

    `now` on the clock of `Outcome.until`. Raises psycopg's errors. No queue is asked of which no run is free.
    """
    ours = sorted((o for o in outcomes if str(o.task.run_id) in free), key=lambda o: o.task.queue)
    written: list[tuple[Sequence[Outcome], Any]] = []
    for queue, group in groupby(ours, key=lambda o: o.task.queue):
        part = list(group)
        given: dict[str, Any] = {
            **columns(part),
            "seconds": f"{{{','.join([str(max(0.0, o.until - now)) for o in part])}}}",
        }
        row: Any = conn.execute(on_queue(_SNOOZE, queue), given).fetchone()
        written.append((part, row[0]))
    return written
