"""Running one handler: whatever it does comes out as an `Outcome`."""

from __future__ import annotations

import threading

from pgflow_starter.core.causes import is_permanent, told_whole
from pgflow_starter.core.definition import FlowDefinition
from pgflow_starter.core.encoding import error_text, to_json
from pgflow_starter.core.task import Outcome, OutcomeKind, Task
from pgflow_starter.worker.context import TaskContext, handler_log


def execute(
    definition: FlowDefinition, task: Task, deadline: float, cancelled: threading.Event
) -> tuple[Outcome, BaseException | None]:
    """Call the step's handler on this thread. Never raises: exceptions, even SystemExit, become failed outcomes.

    The exception comes beside the outcome, which may wait to be written for long: it holds all that its frames do.
    """
    step = definition.step(task.step_slug)
    if task.unreadable is not None:
        told = error_text(f"the input cannot be read: {task.unreadable}")
        return Outcome(task, OutcomeKind.FAILED_FOR_GOOD, error=told, error_type="ValueError"), None
    assert step is not None  # a claim gives back what is another code's
    ctx = TaskContext(
        run_id=task.run_id,
        flow_slug=task.flow_slug,
        step_slug=task.step_slug,
        task_index=task.task_index,
        attempt=task.attempt,
        msg_id=task.msg_id,
        flow_input=task.flow_input,
        deadline=deadline,
        cancelled=cancelled,
        logger=handler_log(task.run_id, task.flow_slug, task.step_slug, task.task_index, task.attempt),
    )
    try:
        output = step.handler(task.input, ctx)
    except BaseException as error:
        kind = OutcomeKind.FAILED_FOR_GOOD if is_permanent(error) else OutcomeKind.FAILED
        return Outcome(task, kind, error=_told(error), error_type=type(error).__name__), error
    try:
        return Outcome(task, OutcomeKind.COMPLETED, output_json=to_json(output)), None
    except BaseException as error:  # of an output's own methods
        told = f"the handler's output cannot be stored: {_text_of(error)}"
        return failed(task, told, type(error).__name__), error


def failed(task: Task, text: str, error_type: str) -> Outcome:
    """A failed outcome with that error text."""
    return Outcome(task, OutcomeKind.FAILED, error=error_text(text), error_type=error_type)


def _told(error: BaseException) -> str:
    """The exception's own line first, the last frames of its traceback, then the exceptions within it."""
    try:
        parts = told_whole(error)
        return error_text(next(parts), parts)
    except BaseException:  # an exception whose own methods raise
        return type(error).__name__


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException:
        return type(error).__name__
