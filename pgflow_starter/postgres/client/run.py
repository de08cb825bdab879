"""`Run`: one run of a flow, as a client saw it last; and the summaries of those that began last."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from pgflow_starter.clock import SystemClock
from pgflow_starter.core.runs import RunSummary, StepSummary
from pgflow_starter.postgres.client.steps import StepRun, moment, stored_json
from pgflow_starter.postgres.connections.connection import Connection

FINISHED = ("completed", "failed")

COLUMNS = """
r.run_id::text, r.flow_slug, r.status, r.input::text, r.output::text, {error},
extract(epoch from r.started_at)::float8, extract(epoch from coalesce(r.completed_at, r.failed_at))::float8
"""
"""What `run_of` reads, of a run `r`, its error apart; in forms that no DateStyle and no caller's adapter changes."""

# Of the task that failed it, which none of a skipped step is; of a step without one where a newer core failed it for an
# unmet condition.
_ERROR = """
case when r.status = 'failed' then coalesce(
    (select t.error_message from pgflow.step_tasks t join pgflow.step_states s using (run_id, step_slug)
     where t.run_id = r.run_id and t.status = 'failed' and s.status <> 'skipped' order by t.failed_at limit 1),
    (select s.error_message || pg_catalog.format(' (step %%L)', s.step_slug) from pgflow.step_states s
     where s.run_id = r.run_id and s.status = 'failed' order by s.failed_at limit 1))
end
"""
STATUSES = "select r.run_id::text, r.status from pgflow.runs r where r.run_id = any(%s::uuid[])"
"""The statuses of those of these runs that are there."""

FIND = f"select {COLUMNS.format(error=_ERROR)} from pgflow.runs r where r.run_id = any(%s::uuid[])"  # noqa: S608 - a constant
"""The rows of these runs, for `run_of`."""

# pgflow has no index on started_at: a statement that takes too long on many runs is ended by its time limit.
_RECENT = """
select r.run_id::text, r.flow_slug, r.status, extract(epoch from r.started_at)::float8,
       extract(epoch from coalesce(r.completed_at, r.failed_at))::float8,
       (select pg_catalog.jsonb_agg(pg_catalog.jsonb_build_array(
                           s.step_slug, s.status, s.initial_tasks, s.remaining_tasks,
                           to_jsonb(s) ->> 'skip_reason'::text)
                         order by d.step_index)
        from pgflow.step_states s join pgflow.steps d using (flow_slug, step_slug) where s.run_id = r.run_id)
from (select * from pgflow.runs order by started_at desc limit %s) r
order by r.started_at desc
"""


class RunReader(Protocol):
    """What a run asks: the client that saw it."""

    def run(self, run_id: UUID) -> Run:
        """As `Run.refresh`."""

    def steps(self, run_id: UUID) -> tuple[StepRun, ...]:
        """As `Run.steps`."""

    def wait(self, run: Run, timeout: float | None) -> Run:
        """As `Run.wait`."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run. `status` is `started`, `completed` or `failed`; `output` maps each final step to its output.

    `error` is the message of the task that failed the run, or why the core failed it without one. Times are UTC; one
    that Python cannot express, infinity for one, is None, and `notes` tell of it.
    """

    id: UUID
    flow_slug: str
    status: str
    input: Any
    output: Any
    error: str | None
    started_at: datetime | None
    ended_at: datetime | None
    _client: RunReader = field(repr=False, compare=False)
    seen_at: float = field(default=0.0, repr=False, compare=False)
    """When that was, on the monotonic clock."""
    committed: bool = field(default=True, repr=False, compare=False)
    """Whether somebody else can see it: one that was started in the caller's own transaction is not yet known to be."""
    notes: tuple[str, ...] = ()
    found: bool = field(default=False, repr=False, compare=False)
    """Whether a call that was to start it found it there."""

    @property
    def finished(self) -> bool:
        """Whether the run is completed or failed."""
        return self.status in FINISHED

    @property
    def result(self) -> Any:
        """The output of the one final step, where there is one; else `output`."""
        if isinstance(self.output, dict) and len(self.output) == 1:
            return next(iter(self.output.values()))
        return self.output

    def refresh(self) -> Run:
        """The run as it is now. Raises PgflowError."""
        return self._client.run(self.id)

    def steps(self) -> tuple[StepRun, ...]:
        """The run's steps as they are now, in the flow's order, with what they returned. Raises PgflowError."""
        return self._client.steps(self.id)

    def wait(self, timeout: float | None = None) -> Run:
        """The run once it is finished, completed or failed; polls from 20 ms up to 0.5 s.

        `timeout` in seconds, None: for ever; a database that is away meanwhile is waited out. Raises TimeoutError,
        RunNotFoundError when the run was deleted, PgflowError.
        """
        return self._client.wait(self, timeout)


def run_of(row: Any, client: RunReader, *, committed: bool = True, found: bool = False) -> Run:
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
        found,
    )


def recent_runs(conn: Connection, limit: int, seconds: float) -> tuple[RunSummary, ...]:
    """The runs that began last, the newest first; the server gives up after `seconds`. Raises psycopg's errors."""
    with conn.pipeline(), conn.transaction():
        conn.execute("select set_config('statement_timeout', %s, true)", (f"{int(seconds * 1000)}ms",))
        cursor: Any = conn.execute(_RECENT, (limit,))
    found: list[RunSummary] = []
    for run_id, slug, status, started_at, ended_at, steps in cursor.fetchall():
        notes: list[str] = []
        began, ended = moment(started_at, "started_at", notes), moment(ended_at, "ended_at", notes)
        told = tuple(StepSummary(*step) for step in steps or ())
        found.append(RunSummary(UUID(run_id), slug, status, began, ended, told, tuple(notes)))
    return tuple(found)
