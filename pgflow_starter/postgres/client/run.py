"""`Run`: one run of a flow, as a client saw it last."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, Protocol, Self
from uuid import UUID

from pgflow_starter.clock import SystemClock
from pgflow_starter.core.generics import Out, Output
from pgflow_starter.core.runs import FINISHED, RunStatus
from pgflow_starter.errors import PgflowError, RunFailedError
from pgflow_starter.postgres.client.steps import StepRun, moment, stored_json

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

_FIND = f"select {COLUMNS.format(error=_ERROR)} from {{runs}} r where r.run_id = any(%s::uuid[])"  # noqa: S608 - a constant
_BARE = """
(select run_id, flow_slug, status, null as input, null as output, started_at, completed_at, failed_at from pgflow.runs)
"""
FIND = _FIND.format(runs="pgflow.runs")
"""The rows of these runs, for `run_of`."""

FIND_BARE = _FIND.format(runs=_BARE)
"""The same without input and output."""

FOUND = f"""
select {COLUMNS.format(error=_ERROR)}, r.input <> g.input::jsonb
from unnest(%(run_ids)s::uuid[], %(inputs)s::text[]) with ordinality g(run_id, input, n)
join pgflow.runs r on r.run_id = g.run_id order by g.n
"""  # noqa: S608 - constants
"""The same, one for each of these ids and inputs, and whether that is another input than the run's."""


class RunReader(Protocol):
    """What a run asks: the client that saw it."""

    def run(self, run_id: UUID) -> Run:
        """As `Run.refresh`."""

    def steps(self, run_id: UUID) -> tuple[StepRun, ...]:
        """As `Run.steps`."""

    def wait(self, run: Run[Output], timeout: float | None) -> Run[Output]:
        """As `Run.wait`."""


@dataclass(frozen=True, slots=True)
class RunFacts(Generic[Out]):
    """What was seen of a run, by whichever client: the fields of `Run` and of `AioRun`."""

    id: UUID
    flow_slug: str
    status: RunStatus
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
    input_differs: bool = field(default=False, compare=False)
    """Whether the call that gave this found the run, and would have started it with another input."""
    found: bool = field(default=False, repr=False, compare=False)
    """Whether a call that was to start it found it there."""

    @property
    def finished(self) -> bool:
        """Whether the run is completed or failed."""
        return self.status in FINISHED

    @property
    def result(self) -> Out:
        """The output of the one final step, where there is one; else `output`. None before the run is completed."""
        single = isinstance(self.output, dict) and len(self.output) == 1
        result: Out = next(iter(self.output.values())) if single else self.output
        return result

    def raise_for_status(self) -> Self:
        """This run, where it is completed. Raises RunFailedError where it has failed, PgflowError where it goes on.

        It asks nobody: `run.wait().raise_for_status()`.
        """
        if self.status == "completed":
            return self
        told = f"run {self.id} of flow {self.flow_slug!r}"
        if self.status == "failed":
            raise RunFailedError(f"{told} has failed: {self.error or 'nothing says why'}")
        raise PgflowError(f"{told} has not ended, it is {self.status}: wait for it first")


@dataclass(frozen=True, slots=True)
class Run(RunFacts[Out]):
    """One run. `status` is `started`, `completed` or `failed`; `output` maps each final step to its output.

    `Run[Out]` is one whose `result` is an `Out` when it is completed.

    `error` is the message of the task that failed the run, or why the core failed it without one. Times are UTC; one
    that Python cannot express, infinity for one, is None, and `notes` tell of it.
    """

    def refresh(self) -> Run[Out]:
        """The run as it is now. Raises PgflowError."""
        return self._client.run(self.id)

    def steps(self) -> tuple[StepRun, ...]:
        """The run's steps as they are now, in the flow's order, with what they returned. Raises PgflowError."""
        return self._client.steps(self.id)

    def wait(self, timeout: float | None = None) -> Run[Out]:
        """The run once it is finished, completed or failed; polls from 20 ms up to 0.5 s.

        `timeout` in seconds, None: for ever; a database that is away meanwhile is waited out. Raises TimeoutError,
        RunNotFoundError when the run was deleted, PgflowError.
        """
        return self._client.wait(self, timeout)


def run_of(
    row: Any, client: RunReader, *, committed: bool = True, input_differs: bool = False, found: bool = False
) -> Run:
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
        input_differs,
        found,
    )
