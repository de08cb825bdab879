"""What the database holds as started: by a worker that has died, or by one that knows nothing of it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import groupby
from typing import Any, NamedTuple, TypeAlias
from uuid import UUID

from pgflow_starter.core.classify import reason_for_logs
from pgflow_starter.core.evidence import MessageKey
from pgflow_starter.core.runs import EndedRun
from pgflow_starter.core.said_once import SaidOnce
from pgflow_starter.core.task import Task
from pgflow_starter.errors import DatabaseError
from pgflow_starter.postgres.connections.connection import Connection
from pgflow_starter.postgres.connections.database import Database
from pgflow_starter.postgres.stores.carrying import ENDED, carry, ended
from pgflow_starter.postgres.stores.features import StorePart, on_queue, queue_column
from pgflow_starter.postgres.stores.pgmq import channel
from pgflow_starter.postgres.stores.settling import EXHAUST
from pgflow_starter.postgres.stores.worker_rows import OURS, STOPPED

logger = logging.getLogger("pgflow_starter.tasks")

AT_ONCE = 200
"""Stalled tasks that are recovered in one transaction."""

LONGEST = 5.0
"""Seconds of one sweep after which it begins with no more."""

SHORT_LOCK = 0.05
"""Seconds that a sweep waits for somebody's lock: what it leaves is found by the next."""

GRACE = 30
"""Seconds beyond its step's timeout after which a task of another runtime's silent worker is stalled."""

_Key: TypeAlias = tuple[UUID, str, int]

# Tasks that a worker started and did not end, as if they had never been claimed; visible at once, which the
# queue's listeners are told as of new ones: they may have seen nothing. Who has one, or its message, locked is at it.
_GIVE_BACK = """
with mine as materialized (
    select t.run_id, t.step_slug, t.task_index, t.message_id from pgflow.step_tasks t
    join unnest(%(runs)s::uuid[], %(steps)s::text[], %(indexes)s::integer[]) as o(run_id, step_slug, task_index)
        using (run_id, step_slug, task_index)
    where t.status = 'started' and t.last_worker_id = %(worker)s
    for update of t skip locked
), messages as materialized (
    select q.msg_id from pgmq.{queue} q where q.msg_id in (select message_id from mine) for update skip locked
), given as (
    update pgflow.step_tasks t
    set status = 'queued', started_at = null, attempts_count = greatest(t.attempts_count - 1, 0)
    from mine where t.run_id = mine.run_id and t.step_slug = mine.step_slug and t.task_index = mine.task_index
      and (mine.message_id in (select msg_id from messages)
           or not exists (select from pgmq.{queue} q where q.msg_id = mine.message_id))
    returning t.run_id, t.step_slug, t.task_index, t.message_id
), shown as (
    update pgmq.{queue} q set vt = clock_timestamp() from given where q.msg_id = given.message_id
), told as materialized (
    select pg_catalog.pg_notify(%(channel)s::text, '') where exists (select from given)
)
select run_id, step_slug, task_index from given left join told on true
"""
# Of steps that go on: on the older cores a task stays started for ever whose run has failed, or whose step was skipped,
# and nobody minds.
_STARTED_BY = """
select t.last_worker_id, t.run_id, t.flow_slug, t.step_slug, t.task_index, coalesce(t.message_id, 0), {queue}
from pgflow.step_tasks t
join pgflow.runs r on r.run_id = t.run_id and r.status = 'started'
join pgflow.step_states e on e.run_id = t.run_id and e.step_slug = t.step_slug and e.status = 'started'
where t.last_worker_id = any(%(workers)s) and t.status = 'started'
"""
_SINCE = "coalesce(t.started_at, t.queued_at)"
# Tasks whose worker has not been heard of: judged by the worker, however long the task itself runs, and not by the time
# in which the server was down and nobody could be heard. Another runtime's worker is silent while it works: its task
# must be too old as well, by the rule of the core's own sweep. So must that of a worker whose row somebody deleted,
# for nobody can tell whose it was. One that said on a newer core that it stopped, and was
# not heard of since, is dead at once. A worker whose row somebody has locked could not be heard either. Who has a run
# or a task locked is at it: another sweep finds what is left of it, so two at once do no harm.
_STALLED = f"""
with dead as materialized (
    select w.worker_id, {OURS} or {STOPPED} as whatever_it_did from pgflow.workers w
    where w.worker_id <> all(%(own)s)
      and ({STOPPED}
           or greatest(w.last_heartbeat_at, pg_postmaster_start_time())
              < now() - pg_catalog.make_interval(secs => %(age)s))
    for no key update skip locked
)
select t.run_id, t.step_slug, t.task_index, t.flow_slug, t.message_id,
       t.attempts_count >= coalesce(s.opt_max_attempts, f.opt_max_attempts),
       to_regclass(pg_catalog.format('pgmq.%%I', 'q_' || {{queue}})) is not null, {{queue}}
from pgflow.step_tasks t
join pgflow.flows f on f.flow_slug = t.flow_slug
join pgflow.steps s on s.flow_slug = t.flow_slug and s.step_slug = t.step_slug
join pgflow.step_states e on e.run_id = t.run_id and e.step_slug = t.step_slug and e.status = 'started'
join pgflow.runs r on r.run_id = t.run_id and r.status = 'started'
left join dead d on d.worker_id = t.last_worker_id
where t.status = 'started' and t.flow_slug = any(%(slugs)s)
  and (d.whatever_it_did
       or {_SINCE} < now() - pg_catalog.make_interval(secs => coalesce(s.opt_timeout, f.opt_timeout) + {GRACE})
          and (d.worker_id is not null
               or not exists (select from pgflow.workers w where w.worker_id = t.last_worker_id)
                  and greatest({_SINCE}, pg_postmaster_start_time())
                      < now() - pg_catalog.make_interval(secs => %(age)s)))
  and (%(run)s::uuid is null or (t.run_id = %(run)s and t.step_slug = %(step)s and t.task_index = %(index)s))
order by t.run_id, t.step_slug, t.task_index
limit %(most)s
for update of t, r skip locked
"""  # noqa: S608 - constants
# Of one queue: the messages that are there, and those of them that nobody has locked, which are visible then.
_SHOW = """
with there as materialized (
    select q.msg_id, pg_catalog.to_jsonb(q) ->> 'headers'::text as headers from pgmq.{queue} q
    where q.msg_id = any(%(ids)s::bigint[])
),
free as materialized (
    select msg_id from pgmq.{queue} where msg_id in (select msg_id from there) for update skip locked
), shown as (
    update pgmq.{queue} q set vt = clock_timestamp() from free where q.msg_id = free.msg_id
)
select msg_id, msg_id in (select msg_id from free), headers from there
"""
_REQUEUE = """
update pgflow.step_tasks t set status = 'queued', started_at = null
from unnest(%(runs)s::uuid[], %(steps)s::text[], %(indexes)s::integer[]) as o(run_id, step_slug, task_index)
where t.run_id = o.run_id and t.step_slug = o.step_slug and t.task_index = o.task_index
"""
_FAIL = """
select count(*)
from unnest(%(runs)s::uuid[], %(steps)s::text[], %(indexes)s::integer[]) as o(run_id, step_slug, task_index),
     lateral pgflow.fail_task(o.run_id, o.step_slug, o.task_index, %(text)s::text)
"""
_STALLED_TEXT = "the worker that ran the task died, and the task has no attempt left"


class _Recovered(NamedTuple):
    """How many there were, how many of them get their next attempt, those that have failed, each with its flow; and the
    runs that have `ended` by that."""

    found: int
    again: int
    lost: Sequence[Any]
    ended: Sequence[EndedRun]


class Stalled(StorePart):
    """Gives such tasks back. Blocks on I/O; thread-safe."""

    _carried: Callable[[str], str | None]

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._refused = SaidOnce()

    def give_back(self, worker_id: UUID, tasks: Sequence[Task]) -> set[_Key]:
        """As `TaskStore.give_back`; not those that the worker has not started."""
        given: set[_Key] = set()
        for queue, group in groupby(sorted(tasks, key=lambda t: t.queue), key=lambda t: t.queue):
            keys = _columns([t.key for t in group])
            parameters = {**keys, "worker": worker_id, "channel": channel(queue)}
            given.update(self._rows(on_queue(_GIVE_BACK, queue), parameters))
        return given

    def started_by(self, workers: Sequence[UUID]) -> Sequence[tuple[UUID, Task]]:
        """As `TaskStore.started_by`."""
        given = {"workers": list(workers)}
        rows: list[Any] = self._database.call(lambda conn: self._of_queues(conn, _STARTED_BY, given))
        return [
            (worker, Task(run, slug, step, index, msg, 0, None, None, step_queue=None if queue == slug else queue))
            for worker, run, slug, step, index, msg, queue in rows
        ]

    def recover_stalled(
        self,
        slugs: Collection[str],
        own: Collection[UUID],
        stale_threshold: float,
        ended: Callable[[Sequence[EndedRun]], object] = lambda _: None,
    ) -> int:
        """As `TaskStore.recover_stalled`.

        Of a worker whose row is gone as of another runtime's. It begins with no more after five seconds.
        """
        given = {"slugs": list(slugs), "own": list(own), "age": stale_threshold, "run": None, "step": "", "index": 0}
        until = self._database.clock.monotonic() + LONGEST
        recovered = 0
        while True:
            found, done = self._recover_batch(given, until, ended)
            recovered += done
            if found < AT_ONCE or not done or self._database.clock.monotonic() >= until:
                return recovered

    def _recover_batch(
        self, given: dict[str, Any], until: float, ended: Callable[[Sequence[EndedRun]], object]
    ) -> tuple[int, int]:
        """How many were found, and how many of them recovered."""
        seen: list[_Key] = []
        try:
            return self._recover_these(given, AT_ONCE, seen, ended, carrying=True)
        except DatabaseError as error:
            if error.connection_lost or not seen:
                raise
        # One of them is to blame, or they are too many, or what keeps a trace from being carried on: each by itself,
        # and rather without a trace than not at all.
        recovered = 0
        for run, step, index in dict.fromkeys(seen):
            if self._database.clock.monotonic() >= until:
                break
            this = {**given, "run": run, "step": step, "index": index}
            try:
                recovered += self._recover_these(this, 1, [], ended, carrying=False)[1]
            except DatabaseError as error:
                if error.connection_lost:
                    raise
                level = logging.WARNING if self._refused.note((run, step, index)) else logging.DEBUG
                logger.log(level, "step %s of run %s cannot be recovered: %s", step, run, reason_for_logs(error))
        return len(seen), recovered

    def _recover_these(
        self,
        given: dict[str, Any],
        most: int,
        seen: list[_Key],
        ended: Callable[[Sequence[EndedRun]], object],
        *,
        carrying: bool,
    ) -> tuple[int, int]:
        """In one transaction; how many there were and how many are recovered, and says what was `seen`."""

        def recover(conn: Connection) -> _Recovered:
            with conn.transaction():
                rows = self._of_queues(conn, _STALLED, {**given, "most": most})
                seen.extend((run, step, index) for run, step, index, *_ in rows)
                return self._recover(rows, carrying, conn) if rows else _Recovered(0, 0, (), ())

        found, again, lost, over = self._database.call(recover, lock=SHORT_LOCK)
        ended(over)
        for run, step, index, slug in lost:
            fields = {"pgflow_run_id": str(run), "pgflow_slug": slug, "pgflow_step": step, "pgflow_task_index": index}
            logger.error("%s: step %s of run %s failed for good: %s", slug, step, run, _STALLED_TEXT, extra=fields)
        return found, again + len(lost)

    def _of_queues(self, conn: Connection, statement: str, parameters: dict[str, Any]) -> list[Any]:
        return conn.execute(statement.format(queue=queue_column(self._detected(conn))), parameters).fetchall()

    def _recover(self, rows: list[Any], carrying: bool, conn: Connection) -> _Recovered:
        shown = _shown(conn, rows)
        # Without a message the core's own requeue_stalled_tasks has given the task up.
        over = [r for r in rows if r[5] or (r[7], r[4]) not in shown]
        again = [r[:3] for r in rows if not r[5] and shown.get((r[7], r[4]), (False,))[0]]
        lost = [r[:4] for r in over]
        headers = {r[0]: (r[7], shown[r[7], r[4]][1]) for r in over if (r[7], r[4]) in shown}
        texts = {run: text for run, (_, text) in headers.items() if carrying and text}
        carried = {run: kept for run, text in texts.items() if (kept := self._carried(text))}
        with conn.pipeline():
            if again:
                conn.execute(_REQUEUE, _columns(again))
            if lost:
                conn.execute(EXHAUST, _columns(lost))
                conn.execute(_FAIL, {**_columns(lost), "text": _STALLED_TEXT})
            if carried:  # where failing means that a step is skipped, others begin
                carry(conn, carried, {headers[run][0] for run in carried}, self._detected(conn))
            if lost:
                runs = conn.execute(ENDED, {"carried_runs": [r[0] for r in lost]})
        return _Recovered(len(rows), len(again), lost, ended(runs.fetchall(), carried) if lost else ())


def _shown(conn: Connection, rows: Iterable[Any]) -> dict[MessageKey, tuple[bool, str | None]]:
    """The messages that are there, whether each is visible now: nobody has it locked; and its headers."""
    by_queue: dict[str, list[int]] = {}
    for *_, message, _exhausted, there, queue in rows:
        if there and message is not None:
            by_queue.setdefault(queue, []).append(message)
    cursors: dict[str, Any] = {}
    with conn.pipeline():
        for queue, ids in by_queue.items():
            cursors[queue] = conn.execute(on_queue(_SHOW, queue), {"ids": ids})
    return {(queue, row[0]): (row[1], row[2]) for queue, cursor in cursors.items() for row in cursor.fetchall()}


def _columns(keys: Sequence[Any]) -> dict[str, Any]:
    return {"runs": [k[0] for k in keys], "steps": [k[1] for k in keys], "indexes": [k[2] for k in keys]}
