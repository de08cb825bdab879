"""`recent_runs`: the runs that began last, as their summaries."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from pgflow_starter.core.runs import RunSummary, StepSummary
from pgflow_starter.postgres.client.steps import moment
from pgflow_starter.postgres.connections.connection import Connection

# pgflow has no index on started_at: a statement that takes too long on many runs is ended by its time limit.
_RECENT = """
select r.run_id::text, r.flow_slug, r.status, extract(epoch from r.started_at)::float8,
       extract(epoch from coalesce(r.completed_at, r.failed_at))::float8,
       (select pg_catalog.jsonb_agg(pg_catalog.jsonb_build_array(
                           s.step_slug, s.status, s.initial_tasks, s.remaining_tasks)
                         order by d.step_index)
        from pgflow.step_states s join pgflow.steps d using (flow_slug, step_slug) where s.run_id = r.run_id)
from (select * from pgflow.runs order by started_at desc limit %s) r
order by r.started_at desc
"""
LIMIT_TIME = "select set_config('statement_timeout', %s, true)"
"""For the rest of a transaction; in milliseconds, as text."""


def recent_runs(conn: Connection, limit: int, seconds: float) -> tuple[RunSummary, ...]:
    """The runs that began last, the newest first; the server gives up after `seconds`. Raises psycopg's errors."""
    with conn.pipeline(), conn.transaction():
        conn.execute(LIMIT_TIME, (f"{int(seconds * 1000)}ms",))
        cursor: Any = conn.execute(_RECENT, (limit,))
    found: list[RunSummary] = []
    for run_id, slug, status, started_at, ended_at, steps in cursor.fetchall():
        notes: list[str] = []
        began, ended = moment(started_at, "started_at", notes), moment(ended_at, "ended_at", notes)
        told = tuple(StepSummary(*step) for step in steps or ())
        found.append(RunSummary(UUID(run_id), slug, status, began, ended, told, tuple(notes)))
    return tuple(found)
