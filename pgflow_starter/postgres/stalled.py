"""What the database holds as started: by a worker that has died, or by one that knows nothing of it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from typing import Any, TypeAlias
from uuid import UUID

from pgflow_starter.core.classify import reason_for_logs
from pgflow_starter.core.news import News
from pgflow_starter.core.task import Task
from pgflow_starter.errors import DatabaseError
from pgflow_starter.postgres.connection import Connection
from pgflow_starter.postgres.database import Database
from pgflow_starter.postgres.settling import EXHAUST

logger = logging.getLogger("pgflow_starter.tasks")

AT_ONCE = 200
"""Stalled tasks that are recovered in one transaction."""

BATCHES = 5
"""Of them in one sweep at most."""

_Key: TypeAlias = tuple[UUID, str, int]

# Tasks that a worker started and did not end, as if they had never been claimed. Who has one locked is at it.
_GIVE_BACK = """
with free as materialized (
    select t.run_id, t.step_slug, t.task_index from pgflow.step_tasks t
    join unnest(%(runs)s::uuid[], %(steps)s::text[], %(indexes)s::integer[]) as o(run_id, step_slug, task_index)
        using (run_id, step_slug, task_index)
    where t.status = 'started' and t.last_worker_id = %(worker)s
    for update of t skip locked
), given as (
    update pgflow.step_tasks t
    set status = 'queued', started_at = null, attempts_count = greatest(t.attempts_count - 1, 0)
    from free where t.run_id = free.run_id and t.step_slug = free.step_slug and t.task_index = free.task_index
    returning t.flow_slug, t.message_id
)
select count(*) from (select flow_slug, array_agg(message_id) as ids, array_agg(0) as nows from given
                      where message_id is not null group by flow_slug) g,
     lateral pgflow.set_vt_batch(g.flow_slug, g.ids, g.nows)
"""
_STARTED_BY = """
select last_worker_id, run_id, flow_slug, step_slug, task_index, coalesce(message_id, 0) from pgflow.step_tasks
where last_worker_id = any(%s) and status = 'started'
"""
# Tasks whose worker has not been heard of: judged by the worker, however long the task itself runs, and not by the time
# in which the server was down and nobody could be heard. Who has a run or a task locked is at it: another sweep finds
# what is left of it. Those are written again by whoever comes first, so two sweeps at once do no harm.
_STALLED = """
select t.run_id, t.step_slug, t.task_index, t.flow_slug, t.message_id,
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
  and (%(run)s::uuid is null or (t.run_id = %(run)s and t.step_slug = %(step)s and t.task_index = %(index)s))
order by t.run_id, t.step_slug, t.task_index
limit %(most)s
for update of t, r skip locked
"""
# Those whose message is there: without one the core's own requeue_stalled_tasks has given the task up.
_SHOW = """
select g.flow_slug, v.msg_id
from (select flow_slug, array_agg(message_id) as ids, array_agg(0) as nows
      from unnest(%s::text[], %s::bigint[]) as o(flow_slug, message_id)
      where message_id is not null and to_regclass(format('pgmq.%%I', 'q_' || flow_slug)) is not null
      group by flow_slug) g,
     lateral pgflow.set_vt_batch(g.flow_slug, g.ids, g.nows) v
"""
_REQUEUE = """
update pgflow.step_tasks t set status = 'queued', started_at = null
from unnest(%(runs)s::uuid[], %(steps)s::text[], %(indexes)s::integer[]) as o(run_id, step_slug, task_index)
where t.run_id = o.run_id and t.step_slug = o.step_slug and t.task_index = o.task_index
"""
_FAIL = """
select count(*)
from unnest(%(runs)s::uuid[], %(steps)s::text[], %(indexes)s::integer[]) as o(run_id, step_slug, task_index),
     lateral pgflow.fail_task(o.run_id, o.step_slug, o.task_index, %(text)s)
"""
_STALLED_TEXT = "the worker that ran the task died, and the task has no attempt left"


class Stalled:
    """Gives such tasks back. Blocks on I/O; thread-safe."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._refused = News()

    def give_back(self, worker_id: UUID, tasks: Sequence[Task]) -> None:
        """Make tasks that the worker started claimable by others at once, their attempt not counted.

        Those that somebody has locked stay as they are. Raises DatabaseError.
        """
        if tasks:
            keys = _columns([(t.run_id, t.step_slug, t.task_index) for t in tasks])
            self._database.call(lambda conn: conn.execute(_GIVE_BACK, {**keys, "worker": worker_id}))

    def started_by(self, workers: Sequence[UUID]) -> Sequence[tuple[UUID, Task]]:
        """What the database holds as started by these workers, with the worker's id. Raises DatabaseError."""
        rows: list[Any] = self._database.call(lambda conn: conn.execute(_STARTED_BY, (list(workers),)).fetchall())
        return [
            (worker, Task(run, slug, step, index, msg, 0, None, None)) for worker, run, slug, step, index, msg in rows
        ]

    def recover(self, slugs: Sequence[str], own: Sequence[UUID], stale_threshold: float) -> int:
        """Give tasks whose worker's heartbeat is older than `stale_threshold` seconds their next attempt, or fail them.

        Not those of the workers in `own`. A thousand at most; how many it were is returned. Raises DatabaseError.
        """
        given = {"slugs": list(slugs), "own": list(own), "age": stale_threshold, "run": None, "step": "", "index": 0}
        recovered = 0
        for _ in range(BATCHES):
            batch = self._recover_batch(given)
            recovered += batch
            if batch < AT_ONCE:
                break
        return recovered

    def _recover_batch(self, given: dict[str, Any]) -> int:
        seen: list[_Key] = []
        try:
            return self._database.call(partial(_recover, given, AT_ONCE, seen))
        except DatabaseError as error:
            if error.connection_lost or not seen:
                raise
        # One of them is to blame, or they are too many: each by itself.
        recovered = 0
        for run, step, index in seen[:AT_ONCE]:
            this = {**given, "run": run, "step": step, "index": index}
            try:
                recovered += self._database.call(partial(_recover, this, 1, []))
            except DatabaseError as error:
                if error.connection_lost:
                    raise
                level = logging.WARNING if self._refused.says((run, step, index)) else logging.DEBUG
                logger.log(level, "step %s of run %s cannot be recovered: %s", step, run, reason_for_logs(error))
        return recovered


def _recover(given: dict[str, Any], most: int, seen: list[_Key], conn: Connection) -> int:
    """In one transaction; says what was `seen`."""
    with conn.transaction():
        rows: list[Any] = conn.execute(_STALLED, {**given, "most": most}).fetchall()
        seen += [(run, step, index) for run, step, index, *_ in rows]
        if not rows:
            return 0
        visible = set(conn.execute(_SHOW, ([r[3] for r in rows], [r[4] for r in rows])).fetchall())
        lost = [r[:3] for r in rows if r[5] or (r[3], r[4]) not in visible]
        again = [r[:3] for r in rows if not r[5] and (r[3], r[4]) in visible]
        with conn.pipeline():
            if again:
                conn.execute(_REQUEUE, _columns(again))
            if lost:
                conn.execute(EXHAUST, _columns(lost))
                conn.execute(_FAIL, {**_columns(lost), "text": _STALLED_TEXT})
    return len(rows)


def _columns(keys: Sequence[Any]) -> dict[str, Any]:
    return {"runs": [k[0] for k in keys], "steps": [k[1] for k in keys], "indexes": [k[2] for k in keys]}
