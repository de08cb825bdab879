"""`StepRun`: one step of one run, as it was seen; and values as the database stores them, as Python's."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pgflow_starter.core.runs import SkipReason, StepStatus
from pgflow_starter.errors import PgflowError

_STEPS = """
select s.step_slug, s.status,
       case when {unread} then null
            when d.step_type = 'map' then coalesce(
                (select pg_catalog.jsonb_agg(t.output order by t.task_index) from pgflow.step_tasks t
                 where t.run_id = s.run_id and t.step_slug = s.step_slug), '[]')
            else (select t.output from pgflow.step_tasks t
                  where t.run_id = s.run_id and t.step_slug = s.step_slug and t.task_index = 0)
       end::text,
       coalesce((select t.error_message from pgflow.step_tasks t
                 where t.run_id = s.run_id and t.step_slug = s.step_slug and t.status = 'failed'
                 order by t.failed_at limit 1), s.error_message),
       s.initial_tasks, s.remaining_tasks, extract(epoch from s.started_at)::float8,
       extract(epoch from coalesce(s.completed_at, s.failed_at,
                                   (to_jsonb(s) ->> 'skipped_at'::text)::timestamptz))::float8,
       to_jsonb(s) ->> 'skip_reason'::text
from pgflow.step_states s join pgflow.steps d using (flow_slug, step_slug)
where s.run_id = any(%s::uuid[]) order by d.step_index
"""
STEPS = _STEPS.format(unread="s.status <> 'completed'")
"""The rows of a run's steps, for `step_of`. Older cores have no `skipped_at` and no `skip_reason`."""

BARE_STEPS = _STEPS.format(unread="true")
"""The same without outputs."""


@dataclass(frozen=True, slots=True)
class StepRun:
    """One step of a run. `status` is `created`, `started`, `completed`, `failed` or, on newer cores, `skipped`.

    `output` is that of a completed step, a list in the order of the elements for a map step; `error` the message of the
    first task that failed for good, or why the core failed the step without one. `tasks` is how many it has and
    `remaining` how many of them are open, None while that is not known. Times are UTC. What Python cannot read, an
    output or a time, is None, and `notes` tell of it. `reason` is why a step was skipped: `condition_unmet`,
    `handler_failed` (then `error` is that task's) or `dependency_skipped`.
    """

    slug: str
    status: StepStatus
    output: Any
    error: str | None
    tasks: int | None
    remaining: int | None
    started_at: datetime | None
    ended_at: datetime | None
    notes: tuple[str, ...] = ()
    reason: SkipReason | None = None


def step_of(row: Any) -> StepRun:
    """A row of `STEPS`."""
    slug, status, text, error, tasks, remaining, started_at, ended_at, reason = row
    output, notes = None, list[str]()
    try:
        output = stored_json(text, "output")
    except PgflowError as unreadable:
        notes.append(str(unreadable))
    began, ended = moment(started_at, "started_at", notes), moment(ended_at, "ended_at", notes)
    return StepRun(slug, status, output, error, tasks, remaining, began, ended, tuple(notes), reason)


def stored_json(text: str | None, what: str) -> Any:
    """JSON text as data, None for none. Raises PgflowError, naming `what`, where it goes beyond what Python parses."""
    try:
        return None if text is None else json.loads(text)
    except (ValueError, RecursionError) as unreadable:
        msg = f"{what} cannot be read: {type(unreadable).__name__}: {unreadable}"
        raise PgflowError(msg) from unreadable


def moment(epoch: float | None, what: str, notes: list[str]) -> datetime | None:
    """Seconds since 1970 as a time in UTC, to the microsecond; None for none.

    None, too, for a time that Python has not, infinity and the years before 1 and after 9999: `notes` are told of it.
    """
    if epoch is None:
        return None
    try:
        return datetime.fromtimestamp(epoch, UTC)
    except (ValueError, OverflowError, OSError):
        told = f"{epoch:.0f} seconds from 1970" if math.isfinite(epoch) else f"{epoch:f}".replace("inf", "infinity")
        notes.append(f"{what} cannot be read: it is beyond what a datetime can express ({told})")
        return None
