"""`RunDetails`: a run with its steps and with each of their tasks, for whoever looks for what went wrong."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar
from uuid import UUID

from pgflow_starter.core.runs import TaskStatus
from pgflow_starter.errors import RunNotFoundError
from pgflow_starter.postgres.client.run import FIND, FIND_BARE, Run, RunFacts, RunReader, run_of
from pgflow_starter.postgres.client.steps import BARE_STEPS, STEPS, StepRun, moment, step_of
from pgflow_starter.postgres.connections.connection import Connection

AnyRun = TypeVar("AnyRun", bound=RunFacts)

_TASKS = """
select t.step_slug, t.task_index, t.status, t.attempts_count, t.error_message, t.last_worker_id::text,
       extract(epoch from t.queued_at)::float8, extract(epoch from t.started_at)::float8,
       extract(epoch from coalesce(t.completed_at, t.failed_at))::float8
from pgflow.step_tasks t join pgflow.steps d using (flow_slug, step_slug)
where t.run_id = any(%s::uuid[]) order by d.step_index, t.task_index
"""


@dataclass(frozen=True, slots=True)
class TaskRun:
    """One task of a run: a step's only one, or that of one element of a map step, `index`.

    `status` is `queued`, `started`, `completed`, `failed` or, on newer cores, `skipped` or `cancelled`. `attempts`
    counts those that began; `error` is the message of the last that failed, with its traceback, also where a later one
    succeeded: pgflow keeps no other. `started_at` is the last attempt's beginning, `worker_id` who made it. Times are
    UTC; one that Python cannot express is None, and `notes` tell of it.
    """

    step_slug: str
    index: int
    status: TaskStatus
    attempts: int
    error: str | None
    queued_at: datetime | None
    started_at: datetime | None
    ended_at: datetime | None
    worker_id: UUID | None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RunDetails(Generic[AnyRun]):
    """A run, its steps in the flow's order, and their tasks in that of steps and elements.

    Where payloads were not asked for, the `input` and every `output` in it are None.
    """

    run: AnyRun
    steps: tuple[StepRun, ...]
    tasks: tuple[TaskRun, ...]


def details_of(conn: Connection, run_id: UUID, client: RunReader, *, payloads: bool) -> RunDetails[Run]:
    """Of that run. Raises RunNotFoundError, PgflowError, psycopg's errors."""
    of = ([str(run_id)],)
    with conn.pipeline(), conn.transaction():
        # The run first: where it is finished, so is all that is read after it.
        found: Any = conn.execute(FIND if payloads else FIND_BARE, of)
        steps: Any = conn.execute(STEPS if payloads else BARE_STEPS, of)
        tasks: Any = conn.execute(_TASKS, of)
    row = found.fetchone()
    if row is None:
        msg = f"there is no run {run_id}"
        raise RunNotFoundError(msg)
    run = run_of(row, client)
    return RunDetails(run, tuple(map(step_of, steps.fetchall())), tuple(map(_task_of, tasks.fetchall())))


def _task_of(row: Any) -> TaskRun:
    slug, index, status, attempts, error, worker, queued_at, started_at, ended_at = row
    notes: list[str] = []
    times = (
        moment(queued_at, "queued_at", notes),
        moment(started_at, "started_at", notes),
        moment(ended_at, "ended_at", notes),
    )
    return TaskRun(slug, index, status, attempts, error, *times, worker and UUID(worker), tuple(notes))
