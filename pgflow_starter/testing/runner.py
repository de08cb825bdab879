"""`run_flow`: pgflow's rules for a run, without a database, a thread or any waiting."""

from __future__ import annotations

import heapq
import json
from types import MappingProxyType
from typing import Any
from uuid import uuid4

from pgflow_starter.core.definition import FlowDefinition, StepKind
from pgflow_starter.core.encoding import to_json
from pgflow_starter.core.modules import definition_of
from pgflow_starter.core.task import LazyJson, OutcomeKind, Task
from pgflow_starter.errors import DatabaseError
from pgflow_starter.testing.attempts import Attempts
from pgflow_starter.testing.jsonb import object_of, stored, type_of
from pgflow_starter.testing.progress import StepProgress, TaskProgress
from pgflow_starter.testing.result import FlowRun


def run_flow(flow: Any, input: Any = None) -> FlowRun:
    """Run a flow or job (the object, or a dotted path) in this thread, without a database; the finished run.

    It goes by the rules of pgflow's SQL core, one task at a time in the order of their messages, and each handler gets
    what a worker would give it. Retries and `start_delay` are not waited for: see `TaskRun.started_at`. A step's
    timeout sets `ctx.deadline`, but is not enforced. What handlers raise fails the run as it does in a worker and comes
    back in the result, except for KeyboardInterrupt and pytest's own outcomes, which are raised.

    Raises DefinitionError for what is no flow, ValueError for an input that is no JSON, DatabaseError as the client
    does for an input that is no array where a map goes over it. Safe from any thread.
    """
    definition = definition_of(flow)
    return _Runner(definition, to_json(input, "input")).run()


class _Runner:
    """One run. JSON is kept as text, so that no two tasks share what one of them may change."""

    def __init__(self, definition: FlowDefinition, input: str) -> None:
        self._definition = definition
        self._attempts = Attempts(definition)
        self._run_id = uuid4()
        self._input = input
        self._flow_input = json.dumps(stored(input))  # as the database would write it
        self._steps = {step.slug: StepProgress(step) for step in definition.steps}
        # (when it is visible, message id, task): the time is virtual, in seconds.
        self._queue: list[tuple[int, int, TaskProgress]] = []
        self._sent = 0
        self._now = 0
        self._failed: TaskProgress | None = None

    def run(self) -> FlowRun:
        """The run when nothing is left to do."""
        self._refuse_what_no_map_can_go_over()
        self._begin_ready_steps()
        while self._queue and self._failed is None:
            self._now, _, task = heapq.heappop(self._queue)
            self._attempt(task)
        return self._result()

    def _refuse_what_no_map_can_go_over(self) -> None:
        root_map = any(s.kind == StepKind.MAP and not s.depends_on for s in self._definition.steps)
        if root_map and not isinstance(given := stored(self._input), list):
            raise DatabaseError(
                f"Flow {self._definition.slug} has root map steps but input is not an array (got {type_of(given)})",
                sqlstate="P0001",
                error_type="RaiseException",
                quoting=True,
            )

    def _begin_ready_steps(self) -> None:
        """Send the messages of all steps whose dependencies are done; maps over nothing are completed at once."""
        ready = self._ready()
        while empty := [step for step, inputs in ready if not inputs]:
            for step in empty:
                step.status = "completed"
            ready = self._ready()
        for step, inputs in ready:
            step.status = "started"
            for index, text in enumerate(inputs):
                self._sent += 1
                task = TaskProgress(step, index, self._sent, text)
                step.tasks.append(task)
                self._send(task, step.definition.start_delay or 0)

    def _ready(self) -> list[tuple[StepProgress, list[str]]]:
        """The steps that may begin, by slug as pgflow does it, each with the inputs of its tasks."""
        steps = [step for _, step in sorted(self._steps.items()) if step.status == "created"]
        return [(s, self._inputs(s)) for s in steps if all(d.status == "completed" for d in self._above(s))]

    def _above(self, step: StepProgress) -> list[StepProgress]:
        return [self._steps[slug] for slug in step.definition.depends_on]

    def _inputs(self, step: StepProgress) -> list[str]:
        """The input of each task, as JSON text."""
        above = self._above(step)
        if step.definition.kind == StepKind.SINGLE:
            return [object_of({d.definition.slug: d.output for d in above}) if above else self._input]
        array: list[Any] = stored(above[0].output if above else self._input)
        return [to_json(element) for element in array]

    def _send(self, task: TaskProgress, delay: int) -> None:
        heapq.heappush(self._queue, (self._now + delay, task.msg_id, task))

    def _attempt(self, task: TaskProgress) -> None:
        task.started_at.append(self._now)
        outcome = self._attempts.run(self._as_claimed(task))
        if outcome.kind is OutcomeKind.COMPLETED:
            self._complete(task, outcome.output_json)
            return
        task.errors.append(outcome.error)
        attempts, base_delay = self._definition.retries_of(task.step.definition)
        if outcome.kind is OutcomeKind.FAILED and len(task.started_at) < attempts:
            self._send(task, base_delay * 2 ** len(task.started_at))
        else:
            self._fail(task)

    def _as_claimed(self, task: TaskProgress) -> Task:
        """The task as a worker claims it: nothing in it is shared with another."""
        step = task.step.definition
        value = stored(task.input)
        root = step.kind == StepKind.SINGLE and not step.depends_on
        flow_input = value if root else LazyJson(self._flow_input)
        slug, attempt = self._definition.slug, len(task.started_at)
        return Task(self._run_id, slug, step.slug, task.index, task.msg_id, attempt, value, flow_input)

    def _complete(self, task: TaskProgress, output: str) -> None:
        task.output = output
        if task.step.definition.kind == StepKind.SINGLE and self._feeds_a_map(task.step):
            kind = type_of(stored(output))
            if kind != "array":
                task.errors.append(f"[TYPE_VIOLATION] Produced {kind} instead of array")
                self._fail(task)
                return
        task.status = "completed"
        if all(t.status == "completed" for t in task.step.tasks):
            task.step.status = "completed"
            self._begin_ready_steps()

    def _feeds_a_map(self, step: StepProgress) -> bool:
        slug = step.definition.slug
        return any(s.kind == StepKind.MAP and slug in s.depends_on for s in self._definition.steps)

    def _fail(self, task: TaskProgress) -> None:
        """The task has failed for good, and with it the run: nothing new begins."""
        task.status = task.step.status = "failed"
        self._failed = task

    def _result(self) -> FlowRun:
        failed = self._failed
        return FlowRun(
            flow_slug=self._definition.slug,
            status="failed" if failed else "completed",
            output=None if failed else stored(self._output()),
            error=failed.errors[-1] if failed else None,
            steps=MappingProxyType({slug: step.as_step_run() for slug, step in self._steps.items()}),
            id=self._run_id,
            input=stored(self._input),
            exception=self._attempts.raised if failed else None,
        )

    def _output(self) -> str:
        """The output of each step that none depends on."""
        depended_on = {slug for step in self._definition.steps for slug in step.depends_on}
        return object_of({slug: step.output for slug, step in self._steps.items() if slug not in depended_on})
