"""The words for where runs, steps and tasks stand; `EndedRun`: a run that has just ended."""

from __future__ import annotations

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
