"""Runs in the database, as rows and as `Run`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from pgflow_starter.clock import SystemClock
from pgflow_starter.postgres.client.run import Run
from pgflow_starter.postgres.client.stored import moment, stored_json

if TYPE_CHECKING:
    from pgflow_starter.postgres.client.client import Client

COLUMNS = """
r.run_id::text, r.flow_slug, r.status, r.input::text, r.output::text, {error},
extract(epoch from r.started_at)::float8, extract(epoch from coalesce(r.completed_at, r.failed_at))::float8
"""
"""What `run_of` reads, of a run `r`, its error apart; in forms that no DateStyle and no caller's adapter changes."""

# Of the task that failed it; of a step without one where a newer core failed it for an unmet condition.
_ERROR = """
case when r.status = 'failed' then coalesce(
    (select t.error_message from pgflow.step_tasks t
     where t.run_id = r.run_id and t.status = 'failed' order by t.failed_at limit 1),
    (select s.error_message || pg_catalog.format(' (step %%L)', s.step_slug) from pgflow.step_states s
     where s.run_id = r.run_id and s.status = 'failed' order by s.failed_at limit 1))
end
"""
STATUSES = "select r.run_id::text, r.status from pgflow.runs r where r.run_id = any(%s::uuid[])"
"""Of these runs, and which of them are there."""

FIND = f"select {COLUMNS.format(error=_ERROR)} from pgflow.runs r where r.run_id = any(%s::uuid[])"  # noqa: S608 - a constant
"""The rows of these runs, for `run_of`."""


def run_of(row: Any, client: Client, *, committed: bool = True) -> Run:
    """A row as a Run. Raises PgflowError for JSON that goes beyond what Python parses."""
    run_id, slug, status, given, output, error, started_at, ended_at = row
    notes: list[str] = []
    return Run(
        UUID(run_id),
        slug,
        status,
        stored_json(given, f"the input of run {run_id}"),
        stored_json(output, f"the output of run {run_id}"),
        error,
        moment(started_at, "started_at", notes),
        moment(ended_at, "ended_at", notes),
        client,
        SystemClock().monotonic(),
        committed,
        tuple(notes),
    )
