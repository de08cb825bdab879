"""What fails: steps by which runs failed within the hour, and steps that are tried again."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg

from pgflow_starter.core.cancelled import is_cancelled
from pgflow_starter.core.run_summary import RunSummary
from pgflow_starter.core.views import Ended, Failing, RunsWanted, StepFailures, StepRetries
from pgflow_starter.postgres.client.pages import page_of
from pgflow_starter.postgres.client.steps import moment
from pgflow_starter.postgres.client.told_errors import ToldErrors
from pgflow_starter.postgres.connections.connection import Connection

HOUR = timedelta(hours=1)
LONGEST_RUN = timedelta(days=1)
"""Of runs that began before it is not told that they failed within the hour."""

FAILED = 100
"""Failed runs that are looked at, and of those that go on twice as many."""

NEWEST = 2_000
"""Runs of which it is counted how many ended."""

MANY = 50_000
"""Runs from which on a look without an index is slow."""

_NOW = "select extract(epoch from now())::float8"
_ENDED = """
select r.flow_slug, pg_catalog.count(*), pg_catalog.count(*) filter (where r.status = 'failed') from (
    select n.flow_slug, n.status from pgflow.runs n where n.started_at > now() - interval '1 hour'
    order by n.started_at desc, n.run_id desc limit %(newest)s) r
where r.status <> 'started' group by r.flow_slug order by r.flow_slug
"""
_ERRORS = """
select s.run_id, s.step_slug, pg_catalog.left(coalesce(t.error_message, s.error_message), 1000),
       coalesce(t.attempts_count < coalesce(p.opt_max_attempts, f.opt_max_attempts), true)
from pgflow.step_states s
join pgflow.steps p on p.flow_slug = s.flow_slug and p.step_slug = s.step_slug
join pgflow.flows f on f.flow_slug = s.flow_slug
left join lateral (
    select t.error_message, t.attempts_count from pgflow.step_tasks t
    where t.run_id = s.run_id and t.step_slug = s.step_slug and t.status = 'failed' limit 1) t on true
where s.run_id = any(%(runs)s::uuid[]) and s.status = 'failed'
"""
# Of runs that go on: of the newest, and of those that pgflow's index of statuses finds first, mostly old ones. Of the
# errors, which may be long and of thousands of tasks, only those that are told are read.
_RETRIED = """
with newest as materialized (
    select n.run_id, n.status from pgflow.runs n order by n.started_at desc, n.run_id desc limit %(newest)s
), living as materialized (
    (select l.run_id from newest l where l.status = 'started' limit %(living)s)
    union
    (select o.run_id from pgflow.runs o where o.status = 'started' limit %(living)s)
), retried as materialized (
    select t.flow_slug, t.step_slug, pg_catalog.count(*) as tasks, min(t.queued_at) as since,
           (pg_catalog.array_agg(t.run_id order by t.attempts_count desc, t.queued_at, t.task_index))[1] as run_id,
           (pg_catalog.array_agg(t.task_index order by t.attempts_count desc, t.queued_at, t.task_index))[1] as task
    from living join pgflow.step_tasks t on t.run_id = living.run_id and t.status = 'queued'
    where t.attempts_count > 0 and t.error_message is not null
    group by t.flow_slug, t.step_slug
)
select r.flow_slug, r.step_slug, r.tasks, extract(epoch from r.since)::float8, r.run_id::text,
       pg_catalog.left(t.error_message, 1000)
from retried r
join pgflow.step_tasks t on t.run_id = r.run_id and t.step_slug = r.step_slug and t.task_index = r.task
order by r.flow_slug, r.step_slug
"""
_INDEXED = """
select exists (
    select from pg_catalog.pg_index i
    join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
    where i.indrelid = 'pgflow.runs'::regclass::oid and i.indisvalid and a.attname = 'started_at')
    or (select c.reltuples::bigint from pg_catalog.pg_class c where c.oid = 'pgflow.runs'::regclass::oid)
       < %(many)s::bigint
"""
_Key = tuple[str, str | None]


def failing(conn: Connection, told: ToldErrors) -> Failing:
    """As it is now. Raises psycopg's errors."""
    indexed: Any = conn.execute(_INDEXED, {"many": MANY}).fetchone()
    try:
        return replace(_failing(conn, told), indexed=indexed[0])
    except psycopg.errors.QueryCanceled:
        if indexed[0]:
            raise
        return Failing(indexed=False, blind=True)


def _failing(conn: Connection, told: ToldErrors) -> Failing:
    now: Any = conn.execute(_NOW).fetchone()
    at = datetime.fromtimestamp(now[0], UTC)
    wanted = RunsWanted(frozenset({"failed"}), since=at - LONGEST_RUN, limit=FAILED)
    failed = [run for run in page_of(conn, wanted).runs if run.ended_at is not None and run.ended_at > at - HOUR]
    errors: list[Any] = conn.execute(_ERRORS, {"runs": [run.id for run in failed]}).fetchall()
    ended: list[Any] = conn.execute(_ENDED, {"newest": NEWEST}).fetchall()
    retried: list[Any] = conn.execute(_RETRIED, {"newest": NEWEST, "living": FAILED}).fetchall()
    return Failing(
        _by_step(failed, {(run, step): (error or "", left) for run, step, error, left in errors}, told),
        tuple(
            StepRetries(flow, step, tasks, moment(since, "", []), UUID(run), told(error).error)
            for flow, step, tasks, since, run, error in retried
        ),
        tuple(Ended(*row) for row in ended),
        more=len(failed) == FAILED,
    )


def _by_step(
    failed: list[RunSummary], errors: dict[tuple[UUID, str | None], tuple[str, bool]], told: ToldErrors
) -> tuple[StepFailures, ...]:
    """Of the newest run first; those that somebody cancelled are no failures. To each error it is told whether its task
    had an attempt left."""
    found: dict[_Key, StepFailures] = {}
    for run in failed:
        step = next((step.slug for step in run.steps if step.status == "failed"), None)
        error, attempts_left = errors.get((run.id, step), ("", False))
        if is_cancelled(error, attempts_left):
            continue
        key = (run.flow_slug, step)
        known = found.get(key) or StepFailures(*key, 0, None, run.id, told(error).error)
        found[key] = replace(known, failed=known.failed + 1, since=run.ended_at)
    return tuple(found.values())
