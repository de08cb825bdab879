"""Running one handler: whatever it does comes out as an `Outcome`."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

from pgflow_starter.core.causes import is_permanent, words_and_calls
from pgflow_starter.core.context import TaskContext
from pgflow_starter.core.definition import StepDefinition
from pgflow_starter.core.encoding import error_text, to_json
from pgflow_starter.core.middleware import Middleware
from pgflow_starter.core.snooze import Snooze
from pgflow_starter.core.task import Lazy, Outcome, OutcomeKind, Task
from pgflow_starter.errors import DatabaseError
from pgflow_starter.worker.handler_log import handler_log
from pgflow_starter.worker.middleware import enter

_NOT_AWAITED = (
    "it is a {}, which nobody awaits: for a handler to run on the event loop, it and each decorator around it must be"
    " async def"
)

_DATA_ERRORS = ("22", "54")  # data exceptions and program limits, by SQLSTATE class


class UnstorableOutputError(ValueError):
    """A handler's output that is no JSON, as a middleware sees it; its cause says what is wrong with it."""


def execute(
    step: StepDefinition,
    task: Task,
    deadline: float,
    cancelled: threading.Event | Lazy,
    middleware: Sequence[Middleware] = (),
) -> tuple[Outcome, BaseException | None]:
    """Call the step's handler on this thread, within the middleware, outermost first.

    Never raises: exceptions, even SystemExit, become failed outcomes, a middleware's as a handler's. Where a middleware
    swallows one, the output is null. The output is encoded within, so that a middleware sees that fail, too.

    The exception comes beside the outcome, which may wait to be written for long: it holds all that its frames do. Of
    one that snoozes the caller knows until when.
    """
    if task.unreadable is not None:
        return unreadable(task), None
    ctx = context_of(task, deadline, cancelled)
    output_json = "null"
    try:
        if middleware:
            with ExitStack() as stack:
                enter(stack, middleware, ctx)
                output_json = encoded(step.handler(input_of(step, task), ctx))
        else:
            output_json = encoded(step.handler(input_of(step, task), ctx))
    except BaseException as error:
        return raised(task, error)
    return Outcome(task, OutcomeKind.COMPLETED, output_json=output_json), None


async def execute_async(
    step: StepDefinition,
    task: Task,
    deadline: float,
    cancelled: threading.Event | Lazy,
    middleware: Sequence[Middleware] = (),
) -> tuple[Outcome, BaseException | None]:
    """As `execute`, of a step whose handler `is_async`; a cancellation, too, becomes a failed outcome."""
    if task.unreadable is not None:
        return unreadable(task), None
    ctx = context_of(task, deadline, cancelled)
    output_json = "null"
    try:
        if middleware:
            with ExitStack() as stack:
                enter(stack, middleware, ctx)
                output_json = encoded(await step.handler(input_of(step, task), ctx))
        else:
            output_json = encoded(await step.handler(input_of(step, task), ctx))
    except BaseException as error:
        return raised(task, error)
    return Outcome(task, OutcomeKind.COMPLETED, output_json=output_json), None


def input_of(step: StepDefinition, task: Task) -> Any:
    """What the step's handler is given: decoded, where it has a type for that. Raises PayloadError."""
    return task.input if step.payload is None else step.payload.decode(task.input)


def unreadable(task: Task) -> Outcome:
    """What becomes of a task whose input cannot be had in Python."""
    text = error_text(f"the input cannot be read: {task.unreadable}")
    return Outcome(task, OutcomeKind.FAILED_FOR_GOOD, error=text, error_type="ValueError")


def context_of(task: Task, deadline: float, cancelled: threading.Event | Lazy) -> TaskContext:
    """What the task's handler learns beside its input."""
    run_id, flow_slug, step_slug, task_index, msg_id, attempt, _, flow_input, *_ = task
    logger: Any = Lazy(partial(handler_log, run_id, flow_slug, step_slug, task_index, attempt))
    ends: Any = cancelled  # each made when the handler looks at it: most do not
    return TaskContext(run_id, flow_slug, step_slug, task_index, attempt, msg_id, flow_input, deadline, ends, logger)


def encoded(output: Any) -> str:
    """A handler's output as JSON text. Raises UnstorableOutputError from whatever keeps it from being that."""
    try:
        return to_json(output)
    except BaseException as error:  # of an output's own methods
        why = TypeError(_NOT_AWAITED.format(type(output).__name__)) if _awaitable(output) else error
        raise UnstorableOutputError(f"the handler's output cannot be stored: {_text_of(why)}") from why


def _awaitable(output: Any) -> bool:
    """Whether somebody should have awaited it; a coroutine is closed, for nobody ever will."""
    if not hasattr(type(output), "__await__"):
        return False
    if inspect.iscoroutine(output):
        output.close()
    return True


def raised(task: Task, error: BaseException) -> tuple[Outcome, BaseException]:
    """What becomes of a task whose handler, middleware or output raised that, and the exception to be told."""
    if isinstance(error, Snooze):
        return Outcome(task, OutcomeKind.SNOOZED), error
    if isinstance(error, UnstorableOutputError) and error.__cause__ is not None:
        return failed(task, str(error), type(error.__cause__).__name__), error.__cause__
    kind = OutcomeKind.FAILED_FOR_GOOD if is_permanent(error) else OutcomeKind.FAILED
    return Outcome(task, kind, error=_whole_text(error), error_type=type(error).__name__), error


def failed(task: Task, text: str, error_type: str) -> Outcome:
    """A failed outcome with that error text."""
    return Outcome(task, OutcomeKind.FAILED, error=error_text(text), error_type=error_type)


def storable_instead(outcome: Outcome, error: Exception) -> Outcome | None:
    """The nearest outcome that may be stored, where it was this one's data that could not be; None after the last."""
    if isinstance(error, DatabaseError):
        of_data = (error.sqlstate or "").startswith(_DATA_ERRORS)
    else:
        of_data = isinstance(error, ValueError | TypeError)  # the driver's: it has no form for this
    if not of_data:
        return None
    if outcome.kind is OutcomeKind.COMPLETED:
        return failed(outcome.task, f"the handler's output cannot be stored: {error}", type(error).__name__)
    plain = outcome.error.encode("ascii", "backslashreplace").decode()
    if plain != outcome.error:  # the database's own encoding may have no such character
        return outcome._replace(error=plain)
    if outcome.kind is OutcomeKind.FAILED:  # the delay of its retry is more than an integer holds
        return outcome._replace(kind=OutcomeKind.FAILED_FOR_GOOD)
    return None


def _whole_text(error: BaseException) -> str:
    """The exception's own line first, the last frames of its traceback, then the exceptions within it."""
    try:
        parts = words_and_calls(error)
        return error_text(next(parts), parts)
    except BaseException:  # an exception whose own methods raise
        return type(error).__name__


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException:
        return type(error).__name__
