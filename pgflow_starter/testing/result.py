"""What `run_flow` returns: a run, its steps and its tasks, with the words that pgflow stores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, Self, TypeAlias
from uuid import UUID

from pgflow_starter.core.generics import Out
from pgflow_starter.core.runs import EndedStatus, SkipReason, StepStatus
from pgflow_starter.errors import PgflowError

TaskEnd: TypeAlias = Literal["queued", "completed", "failed"]


@dataclass(frozen=True, slots=True)
class TaskRun:
    """One task. `status` is `completed`, `failed`, or `queued` where the run failed, or the step was skipped, before.

    `started_at` says for each attempt when it began, in seconds since the run's start: what a database would have had
    it wait; of one that snoozed, when it began again. `errors` holds the text of each attempt that failed, the last one
    being what pgflow stores.
    """

    index: int
    status: TaskEnd
    output: Any
    errors: tuple[str, ...]
    started_at: tuple[float, ...]

    @property
    def attempts(self) -> int:
        """How many times the handler was called, but for calls that snoozed."""
        return len(self.started_at)


@dataclass(frozen=True, slots=True)
class StepRun:
    """One step. `status` is `created` (never begun), `started` (not finished), `completed`, `failed` or `skipped`.

    `output` is a single step's output or the list of a map step's, None unless the step is completed. `tasks` is empty
    for a step that never began, and for a map over an empty array. `reason` is why it was skipped: `condition_unmet`,
    `handler_failed` or `dependency_skipped`.
    """

    slug: str
    status: StepStatus
    output: Any
    tasks: tuple[TaskRun, ...]
    reason: SkipReason | None = None


@dataclass(frozen=True, slots=True)
class FlowRun(Generic[Out]):
    """One finished run, as `Run` tells it where there is a database. `status` is `completed` or `failed`.

    `output` maps each final step that was not skipped to its output, None where the run failed or all of these were;
    `error` is the text of the task that failed it, or which step's condition was not met, `exception` what that task's
    handler raised, where it raised anything. Immutable.
    """

    flow_slug: str
    status: EndedStatus
    output: Any
    error: str | None
    steps: Mapping[str, StepRun]
    id: UUID
    input: Any
    exception: BaseException | None = field(repr=False, compare=False)

    @property
    def result(self) -> Out:
        """The output of the one final step, where there is one; else `output`. None where the run failed."""
        single = isinstance(self.output, dict) and len(self.output) == 1
        result: Out = next(iter(self.output.values())) if single else self.output
        return result

    def raise_for_status(self) -> Self:
        """The run itself when it is completed.

        Else raises what the handler raised, with the handler's traceback; PgflowError with the run's error where no
        handler raised (an output that is not JSON, or is no array where a map needs one; an unmet condition).
        """
        if self.exception is not None:
            raise self.exception
        if self.status != "completed":
            raise PgflowError(self.error)
        return self
