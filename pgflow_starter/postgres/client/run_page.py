"""One run as a page shows it: with its steps, so many of its tasks, and what its messages tell of it."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import psycopg
from psycopg import sql

from pgflow_starter.core.views import MOST_TASKS, RunView, StepView, TaskView
from pgflow_starter.postgres.client.run import FIND_BARE
from pgflow_starter.postgres.client.steps import moment
from pgflow_starter.postgres.client.told_errors import ToldErrors
from pgflow_starter.postgres.connections.connection import Connection
from pgflow_starter.postgres.stores.features import on_queue

# Of an error, which may be long, what is told of it.
_RUN = f"""
select f.flow_slug, f.status, pg_catalog.left(f.error, 20000), f.began, f.ended
from ({FIND_BARE}) f (run_id, flow_slug, status, input, output, error, began, ended)
"""  # noqa: S608 - constants
# As text, to the last digit: no other language's numbers are the database's.
_PAYLOADS = """
select case when pg_catalog.length(p.given) > %(longest)s then pg_catalog.left(p.given, %(longest)s) || '…'::text
            else p.given end,
       case when pg_catalog.length(p.output) > %(longest)s then pg_catalog.left(p.output, %(longest)s) || '…'::text
            else p.output end
from (select pg_catalog.jsonb_pretty(r.input) as given, pg_catalog.jsonb_pretty(r.output) as output
      from pgflow.runs r where r.run_id = %(run)s) p
"""
_STEPS = """
select s.step_slug, d.step_type,
       array(select p.dep_slug from pgflow.deps p
             where p.flow_slug = d.flow_slug and p.step_slug = d.step_slug order by p.dep_slug),
       s.status, s.initial_tasks, s.remaining_tasks, extract(epoch from s.started_at)::float8,
       extract(epoch from coalesce(s.completed_at, s.failed_at,
                                   (to_jsonb(s) ->> 'skipped_at'::text)::timestamptz))::float8,
       to_jsonb(s) ->> 'skip_reason'::text,
       pg_catalog.left(coalesce((select t.error_message from pgflow.step_tasks t
                                 where t.run_id = s.run_id and t.step_slug = s.step_slug and t.status = 'failed'
                                 limit 1), s.error_message), 20000)
from pgflow.step_states s join pgflow.steps d using (flow_slug, step_slug)
where s.run_id = %(run)s order by d.step_index
"""
# Those that failed, by pgflow's index of them, and the first of each step, the same share for each. Of an error, which
# may be long, what is told of it.
_TASKS = """
with shares as materialized (
    select s.step_slug,
           %(most)s / (select pg_catalog.count(*) from pgflow.step_states o where o.run_id = %(run)s) + 1 as share
    from pgflow.step_states s where s.run_id = %(run)s
), shown as (
    (select f.step_slug, f.task_index from pgflow.step_tasks f
     where f.run_id = %(run)s and f.status = 'failed' limit %(most)s / 2)
    union
    select s.step_slug, t.task_index from shares s cross join lateral (
        select o.task_index from pgflow.step_tasks o
        where o.run_id = %(run)s and o.step_slug = s.step_slug order by o.task_index limit s.share) t
)
select t.step_slug, t.task_index, t.status, t.attempts_count, extract(epoch from t.queued_at)::float8,
       extract(epoch from t.started_at)::float8, extract(epoch from coalesce(t.completed_at, t.failed_at))::float8,
       t.last_worker_id::text,
       pg_catalog.left(t.error_message, case when row_number() over shown_first <= %(whole)s then 20000 else 1000 end),
       t.message_id,
       coalesce(to_jsonb(t) ->> 'queue_name'::text, t.flow_slug), d.deps_count
from shown join pgflow.step_tasks t on t.run_id = %(run)s and t.step_slug = shown.step_slug
                                   and t.task_index = shown.task_index
join pgflow.steps d on d.flow_slug = t.flow_slug and d.step_slug = t.step_slug
window shown_first as (order by (t.status = 'failed') desc, d.step_index, t.task_index)
order by (t.status = 'failed') desc, d.step_index, t.task_index limit %(most)s
"""
_VISIBLE = (
    "select q.msg_id, extract(epoch from q.vt)::float8 from pgmq.{queue} q where q.msg_id = any(%(ids)s::bigint[])"
)
# Whole rows: older messages have no headers. Those of the first steps' messages tell what the run came from.
_HEADERS = """
select m.headers ->> 'traceparent'::text, m.headers ->> 'pgflow_rerun_of'::text from (
    select to_jsonb(q) -> 'headers'::text as headers from pgmq.{queue} q where q.msg_id = any(%(ids)s::bigint[])
    union all
    select to_jsonb(a) -> 'headers'::text from pgmq.{archive} a where a.msg_id = any(%(ids)s::bigint[])
) m
"""
_FIRST_MESSAGES = 5
_TRACEBACKS = 20
"""Tasks whose traceback is told: a map may have hundreds that failed alike."""

_LONGEST_PAYLOAD = 100_000
"""Characters of an input, or an output."""

_WAITING = ("queued", "started")

# Somebody dropped a queue, has it locked, or lets nobody see it: then that is not known.
_UNSEEN = (psycopg.errors.UndefinedTable, psycopg.errors.InsufficientPrivilege, psycopg.errors.LockNotAvailable)


def run_view(conn: Connection, run_id: UUID, told: ToldErrors, *, payloads: bool) -> RunView | None:
    """The run; None where there is none. Raises psycopg's errors."""
    of: dict[str, Any] = {"run": run_id, "most": MOST_TASKS, "whole": _TRACEBACKS}
    row: Any = conn.execute(_RUN, ([str(run_id)],)).fetchone()
    if row is None:
        return None
    wanted = {"run": run_id, "longest": _LONGEST_PAYLOAD}
    given: Any = conn.execute(_PAYLOADS, wanted).fetchone() if payloads else None
    steps = tuple(_step(step, told) for step in conn.execute(_STEPS, of).fetchall())
    rows: list[Any] = conn.execute(_TASKS, of).fetchall()
    visible = _visible(conn, rows)
    tasks = tuple(_task(task, visible, told, calls=n < _TRACEBACKS) for n, task in enumerate(rows))
    trace, rerun_of = _origin(conn, rows)
    slug, status, error, began, ended = row
    return RunView(
        run_id,
        slug,
        status,
        moment(began, "", []),
        moment(ended, "", []),
        told(error).error,
        rerun_of,
        trace,
        steps,
        tasks,
        max(0, sum(step.tasks or 0 for step in steps if step.started_at is not None) - len(tasks)),
        *(given or ()),
    )


def _step(row: Any, told: ToldErrors) -> StepView:
    slug, kind, depends_on, status, tasks, remaining, began, ended, reason, error = row
    times = (moment(began, "", []), moment(ended, "", []))
    return StepView(slug, kind, tuple(depends_on), status, tasks, remaining, *times, reason, told(error).error)


def _task(row: Any, visible: dict[tuple[str, int], float], told: ToldErrors, *, calls: bool) -> TaskView:
    step, index, status, attempts, queued, began, ended, worker, error, message, queue, _ = row
    seen_at = visible.get((queue, message)) if status in _WAITING else None
    said = told(error)
    return TaskView(
        step,
        index,
        status,
        attempts,
        moment(queued, "", []),
        moment(began, "", []),
        moment(ended, "", []),
        worker and UUID(worker),
        moment(seen_at, "", []),
        said.error,
        said.traceback if calls else None,
    )


def _visible(conn: Connection, tasks: list[Any]) -> dict[tuple[str, int], float]:
    """From when on their messages are seen, by queue and message."""
    ids: dict[str, list[int]] = {}
    for task in tasks:
        if task[2] in _WAITING and task[9] is not None:
            ids.setdefault(task[10], []).append(task[9])
    found: dict[tuple[str, int], float] = {}
    for queue, wanted in ids.items():
        rows = _asked(conn, on_queue(_VISIBLE, queue), wanted)
        found |= {(queue, message): at for message, at in rows}
    return found


def _origin(conn: Connection, tasks: list[Any]) -> tuple[str | None, UUID | None]:
    """The id of the trace that the run began in, and the run that it does again."""
    first = [(task[10], task[9]) for task in tasks if task[11] == 0 and task[9] is not None][:_FIRST_MESSAGES]
    trace: str | None = None
    again: UUID | None = None
    for queue in dict(first):
        tables = (sql.Identifier(f"{prefix}_{queue.lower()}") for prefix in "qa")
        statement = sql.SQL(_HEADERS).format(**dict(zip(("queue", "archive"), tables, strict=True))).as_string()
        for parent, rerun_of in _asked(conn, statement, [message for of, message in first if of == queue]):
            trace = trace or trace_id(parent)
            again = again or _uuid(rerun_of)
    return trace, again


def _asked(conn: Connection, statement: str, ids: list[int]) -> list[Any]:
    try:
        return conn.execute(statement, {"ids": ids}).fetchall()
    except _UNSEEN:
        return []


def trace_id(parent: str | None) -> str | None:
    """Of a W3C `traceparent`, which anybody may have written: 32 digits, or None."""
    parts = (parent or "").split("-")
    found = parts[1] if len(parts) >= 4 else ""
    return found if len(found) == 32 and set(found) <= set("0123456789abcdef") and int(found, 16) else None


def _uuid(text: str | None) -> UUID | None:
    try:
        return None if text is None else UUID(text)
    except ValueError:
        return None
