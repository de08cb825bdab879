"""`RunSummary`: a run as the list of the latest ones tells it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from pgflow_starter.core.runs import RunStatus, SkipReason, StepStatus


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
