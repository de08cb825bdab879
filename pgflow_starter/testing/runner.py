"""`run_flow`: pgflow's rules for a run, without a database, a thread or any waiting."""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterable, Sequence
from types import MappingProxyType
from typing import Any, overload
from uuid import uuid4

from pgflow_starter.config import settings_from
from pgflow_starter.core.definition import FlowDefinition, StepKind
from pgflow_starter.core.encoding import json_text, plain
from pgflow_starter.core.generics import Fitting, Message, Output
from pgflow_starter.core.middleware import Middleware
from pgflow_starter.core.modules import FlowModule, definition_of
from pgflow_starter.core.runs import SkipReason
from pgflow_starter.core.snooze import Snooze
from pgflow_starter.core.task import LazyJson, OutcomeKind, Task
from pgflow_starter.errors import DatabaseError, PgflowError
from pgflow_starter.testing.attempts import Attempts
from pgflow_starter.testing.containment import is_met
from pgflow_starter.testing.jsonb import object_of, stored, type_of
from pgflow_starter.testing.progress import StepProgress, TaskProgress
from pgflow_starter.testing.result import FlowRun

MOST_SNOOZES = 1000
"""Times that one task may snooze."""


@overload
def run_flow(
    flow: FlowModule[Message, Output] | str, input: Fitting[Message], *, middleware: Iterable[Middleware] = ()
) -> FlowRun[Output]: ...


@overload
def run_flow(flow: FlowModule[None, Output] | str, *, middleware: Iterable[Middleware] = ()) -> FlowRun[Output]: ...


def run_flow(flow: FlowModule | str, input: Any = None, *, middleware: Iterable[Middleware] = ()) -> FlowRun[Any]:
    """Run a flow or job (the object, or a dotted path) in this thread, without a database; the finished run.

    It goes by the rules of pgflow's SQL core, of the newer ones where steps have conditions, one task at a time in the
    order of their messages, and each handler gets what a worker would give it, decoded to the type of its annotation:
    an input that does not fit fails the run. Retries, `start_delay` and `Snooze` are
    not waited for: see `TaskRun.started_at`. A step's timeout sets `ctx.deadline`, but is not enforced. What handlers
    raise fails the task as it does in a worker and comes back in the result, except for KeyboardInterrupt and pytest's
    own outcomes, which are raised. `middleware` is entered around each handler's call, as the setting of that name.
    Handlers that are `async` share an event loop, and what they leave on it is cancelled at the end of the run.

    Raises DefinitionError for what is no flow, ValueError for an input that is no JSON and for a bad middleware,
    DatabaseError as the client does for an input that is no array where a map goes over it, PgflowError for a task that
    snoozes a thousand times. Safe from any thread.
    """
    settings = settings_from("", {"middleware": middleware})
    definition = definition_of(flow)
    return _Runner(definition, json_text(plain(input, "input", round_trip=True)), settings.middleware).run()


class _Runner:
    """One run. JSON is kept as text, so that no two tasks share what one of them may change."""

    def __init__(self, definition: FlowDefinition, input: str, middleware: Sequence[Middleware]) -> None:
        self._definition = definition
        self._attempts = Attempts(definition, middleware)
        self._run_id = uuid4()
        self._input = input
        self._flow_input = json.dumps(stored(input))  # as the database would write it
        self._steps = {step.slug: StepProgress(step) for step in definition.steps}
        # (when it is visible, message id, task): the time is virtual, in seconds.
        self._queue: list[tuple[float, int, TaskProgress]] = []
        self._sent = 0
        self._now: float = 0
        self._error: str | None = None
        self._exception: BaseException | None = None

    def run(self) -> FlowRun:
        """The run when nothing is left to do."""
        self._refuse_what_no_map_can_go_over()
        self._go_on()
        try:
            while self._queue and self._error is None:
                self._now, _, task = heapq.heappop(self._queue)
                if task.step.status == "started":  # a step that is skipped takes its messages with it
                    self._attempt(task)
        finally:
            self._attempts.close()
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

    def _go_on(self) -> None:
        """A step has ended, or none has begun: resolve conditions, complete maps over nothing, begin what is ready.

        As in the core, no condition is looked at of a step that is ready for a map over nothing was completed.
        """
        if not self._resolve():
            return
        while empty := [step for step in self._ready() if not self._inputs(step)]:
            for step in empty:
                step.status = "completed"
        for step in sorted(self._ready(), key=lambda step: step.definition.slug):
            inputs = self._inputs(step)
            step.status = "started"
            for index, text in enumerate(inputs):
                self._sent += 1
                task = TaskProgress(step, index, self._sent, text)
                step.tasks.append(task)
                self._send(task, step.definition.start_delay or 0)

    def _resolve(self) -> bool:
        """Skip what is not for its input, until all that is ready is; False when that has failed the run."""
        while True:
            for step in self._unmet("fail"):
                step.status, self._error = "failed", f"Condition not met (step {step.definition.slug!r})"
                return False
            skipped = self._unmet("skip")
            for step in skipped:
                step.skip("condition_unmet")
            for step in self._unmet("skip-cascade"):
                self._skip_with_all_below(step, "condition_unmet")
            if not skipped:
                return True

    def _unmet(self, mode: str) -> list[StepProgress]:
        """The steps of that `when_unmet` that are ready and not for their input, in the flow's order."""
        return [
            step
            for step in self._ready()
            if step.definition.when_unmet == mode and not is_met(step.definition, self._given(step))
        ]

    def _skip_with_all_below(self, step: StepProgress, reason: SkipReason) -> None:
        step.skip(reason)
        for other in self._steps.values():
            if step.definition.slug in other.definition.depends_on and other.status == "created":
                self._skip_with_all_below(other, "dependency_skipped")

    def _ready(self) -> list[StepProgress]:
        """The steps that may begin: a dependency that was skipped is done, too."""
        created = [step for step in self._steps.values() if step.status == "created"]
        return [step for step in created if all(d.status in ("completed", "skipped") for d in self._above(step))]

    def _above(self, step: StepProgress) -> list[StepProgress]:
        return [self._steps[slug] for slug in step.definition.depends_on]

    def _given(self, step: StepProgress) -> str:
        """What a step is given as a whole, as JSON text: the flow's input, or the outputs that there are."""
        if not step.definition.depends_on:
            return self._input
        return object_of({d.definition.slug: d.output for d in self._above(step) if d.status == "completed"})

    def _inputs(self, step: StepProgress) -> list[str]:
        """The input of each task, as JSON text."""
        given = self._given(step)
        if step.definition.kind == StepKind.SINGLE:
            return [given]
        array: Any = stored(given)
        for slug in step.definition.depends_on:
            array = array.get(slug, [])
        return [json_text(element) for element in array]

    def _send(self, task: TaskProgress, delay: float) -> None:
        heapq.heappush(self._queue, (self._now + delay, task.msg_id, task))

    def _attempt(self, task: TaskProgress) -> None:
        task.started_at.append(self._now)
        outcome = self._attempts.run(self._as_claimed(task))
        if outcome.kind is OutcomeKind.COMPLETED:
            self._complete(task, outcome.output_json)
            return
        if outcome.kind is OutcomeKind.SNOOZED:
            self._snooze(task)
            return
        task.errors.append(outcome.error)
        attempts, base_delay = self._definition.retries_of(task.step.definition)
        if outcome.kind is OutcomeKind.FAILED and len(task.started_at) < attempts:
            self._send(task, base_delay * 2 ** len(task.started_at))
        else:
            self._exhausted(task)

    def _snooze(self, task: TaskProgress) -> None:
        task.started_at.pop()
        task.snoozes += 1
        if task.snoozes >= MOST_SNOOZES:
            which = f"step {task.step.definition.slug!r} of flow {self._definition.slug!r}, task {task.index}"
            msg = f"{which}, has snoozed {MOST_SNOOZES} times: in run_flow no time passes that it could wait for"
            raise PgflowError(msg)
        assert isinstance(self._attempts.raised, Snooze)
        self._send(task, self._attempts.raised.seconds)

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
            self._go_on()

    def _feeds_a_map(self, step: StepProgress) -> bool:
        slug = step.definition.slug
        return any(s.kind == StepKind.MAP and slug in s.depends_on for s in self._definition.steps)

    def _exhausted(self, task: TaskProgress) -> None:
        """The task has failed for good: its step is skipped, or the run fails."""
        task.status = "failed"
        match task.step.definition.when_exhausted:
            case "skip":
                task.step.skip("handler_failed")
                self._go_on()
            case "skip-cascade":
                self._skip_with_all_below(task.step, "handler_failed")
            case _:
                self._fail(task)

    def _fail(self, task: TaskProgress) -> None:
        """The run has failed with the task: nothing new begins."""
        task.status = task.step.status = "failed"
        self._error, self._exception = task.errors[-1], self._attempts.raised

    def _result(self) -> FlowRun:
        completed = self._error is None
        return FlowRun(
            flow_slug=self._definition.slug,
            status="completed" if completed else "failed",
            output=self._output() if completed else None,
            error=self._error,
            steps=MappingProxyType({slug: step.as_step_run() for slug, step in self._steps.items()}),
            id=self._run_id,
            input=stored(self._input),
            exception=self._exception,
        )

    def _output(self) -> Any:
        """The output of each step that none depends on, None where all of these are skipped."""
        depended_on = {slug for step in self._definition.steps for slug in step.depends_on}
        final = {slug: step for slug, step in self._steps.items() if slug not in depended_on}
        outputs = {slug: step.output for slug, step in final.items() if step.status == "completed"}
        return stored(object_of(outputs)) if outputs else None
