"""`RunSummary`: a run as the list of the latest ones tells it; `EndedRun`: one that has just ended."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, NamedTuple, TypeAlias, get_args
from uuid import UUID

EndedStatus: TypeAlias = Literal["completed", "failed"]
RunStatus: TypeAlias = Literal["started", "completed", "failed"]
StepStatus: TypeAlias = Literal["created", "started", "completed", "failed", "skipped"]
TaskStatus: TypeAlias = Literal["queued", "started", "completed", "failed", "skipped", "cancelled"]
SkipReason: TypeAlias = Literal["condition_unmet", "handler_failed", "dependency_skipped"]

FINISHED: tuple[EndedStatus, ...] = get_args(EndedStatus)
RUN_STATUSES: tuple[RunStatus, ...] = get_args(RunStatus)


class EndedRun(NamedTuple):
    """A run that has just ended. Times are seconds since 1970, by the server's clock.

    `headers` are what its messages carried, a JSON object, in which the trace context of who started it is; None where
    there is none.
    """

    id: UUID
    flow_slug: str
    status: EndedStatus
    started_at: float
    ended_at: float
    headers: str | None


@dataclass(frozen=True, slots=True)
class StepSummary:
    """One step of a run; `tasks` and how many of them are open, None while that is not known; why it was skipped."""

    slug: str
    status: StepStatus
    tasks: int | None
    remaining: int | None
    reason: SkipReason | None = None


@dataclass(frozen=True, slots=True)
class RunSummary:
    """A run and where its steps stand, in the flow's order; no inputs, no outputs. Times and notes are as a `Run`'s."""

    id: UUID
    flow_slug: str
    status: RunStatus
    started_at: datetime | None
    ended_at: datetime | None
    steps: tuple[StepSummary, ...]
    notes: tuple[str, ...] = ()
