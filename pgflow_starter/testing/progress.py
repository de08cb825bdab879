"""How far the steps and tasks of a run have come. Outputs are JSON text: no two tasks share what one may change."""

from __future__ import annotations

from dataclasses import dataclass, field

from pgflow_starter.core.definition import StepDefinition, StepKind
from pgflow_starter.core.runs import SkipReason, StepStatus
from pgflow_starter.testing.jsonb import array_of, stored
from pgflow_starter.testing.result import StepRun, TaskEnd, TaskRun


@dataclass(slots=True)
class TaskProgress:
    """One task; `started_at` has the virtual time of each attempt, the last of those that snoozed within it."""

    step: StepProgress
    index: int
    msg_id: int
    input: str
    status: TaskEnd = "queued"
    output: str | None = None
    errors: list[str] = field(default_factory=list)
    started_at: list[float] = field(default_factory=list)
    snoozes: int = 0

    def as_task_run(self) -> TaskRun:
        """The task as it is now."""
        output = None if self.output is None else stored(self.output)
        return TaskRun(self.index, self.status, output, tuple(self.errors), tuple(self.started_at))


@dataclass(slots=True)
class StepProgress:
    """One step, and its tasks once it has begun."""

    definition: StepDefinition
    status: StepStatus = "created"
    tasks: list[TaskProgress] = field(default_factory=list)
    reason: SkipReason | None = None

    def skip(self, reason: SkipReason) -> None:
        """It has not ended, and will not begin or go on."""
        if self.status in ("created", "started"):
            self.status, self.reason = "skipped", reason

    @property
    def output(self) -> str:
        """The JSON text of a completed step's output."""
        outputs = [task.output or "null" for task in self.tasks]
        return array_of(outputs) if self.definition.kind == StepKind.MAP else outputs[0]

    def as_step_run(self) -> StepRun:
        """The step as it is now."""
        output = stored(self.output) if self.status == "completed" else None
        tasks = tuple(task.as_task_run() for task in self.tasks)
        return StepRun(self.definition.slug, self.status, output, tasks, self.reason)
