"""A task of the Tasks framework as a run of pgflow: the message, what a worker does with it, and the result."""

from __future__ import annotations

import builtins
import re
import socket
import traceback
from datetime import datetime
from typing import Any

from django.conf import settings
from django.utils import timezone
from django.utils.module_loading import import_string

from pgflow_starter.core.causes import is_permanent
from pgflow_starter.core.context import TaskContext as PgflowContext
from pgflow_starter.core.snooze import Snooze
from pgflow_starter.django.task_api import (
    Task,
    TaskContext,
    TaskError,
    TaskResult,
    TaskResultDoesNotExist,
    TaskResultStatus,
    normalize_json,
    task_finished,
    task_started,
)
from pgflow_starter.errors import PermanentError, PgflowError
from pgflow_starter.postgres.client.details import RunDetails
from pgflow_starter.postgres.client.run import Run

_FIELDS = ("task", "args", "kwargs", "backend", "queue_name", "run_after", "enqueued_at")
_WORDS_AND_CALLS = re.compile(r'(.*?)\n((?:  File "[^\n]*(?:\n    [^\n]*)*(?:\n|$))+)', re.DOTALL)
_RAISED = re.compile(r"([A-Za-z_][\w.]*)(?::|$)", re.MULTILINE)


def message_of(result: Any) -> dict[str, Any]:
    """The input of the run."""
    task = result.task
    values = (
        task.module_path,
        result.args,
        result.kwargs,
        result.backend,
        task.queue_name,
        task.run_after,
        result.enqueued_at,
    )
    return dict(zip(_FIELDS, values, strict=True))


def run_task(message: Any, ctx: PgflowContext, *, max_attempts: int) -> Any:
    """The handler: call the task's function; what it returns, as JSON. Raises what it does."""
    now = timezone.now()
    worker = [socket.gethostname()] * ctx.attempt
    result = _result(
        message, str(ctx.run_id), TaskResultStatus.RUNNING, started_at=now, last_attempted_at=now, worker_ids=worker
    )
    task, backend = result.task, type(result.task.get_backend())
    task_started.send(backend, task_result=result)
    try:
        context = [TaskContext(task_result=result)] if task.takes_context else []
        value = normalize_json(task.call(*context, *result.args, **result.kwargs))
    except Snooze:
        raise
    except BaseException as error:
        if ctx.attempt >= max_attempts or is_permanent(error):
            kind = type(error)
            told = TaskError(
                exception_class_path=f"{kind.__module__}.{kind.__qualname__}",
                traceback="".join(traceback.format_exception(error)),
            )
            _set(result, status=TaskResultStatus.FAILED, finished_at=timezone.now(), errors=[told])
            task_finished.send(backend, task_result=result)
        raise
    _set(result, status=TaskResultStatus.SUCCESSFUL, finished_at=timezone.now(), _return_value=value)
    task_finished.send(backend, task_result=result)
    return value


def result_of(seen: RunDetails[Run]) -> Any:
    """The result of a run. Raises TaskResultDoesNotExist where the run is not of a task, ImportError for the task."""
    run = seen.run
    if not isinstance(run.input, dict) or not run.input.keys() >= set(_FIELDS):
        raise TaskResultDoesNotExist(str(run.id))
    (task,) = seen.tasks or [None]
    statuses = {"completed": TaskResultStatus.SUCCESSFUL, "failed": TaskResultStatus.FAILED}
    running = task is not None and task.status == "started"
    status = statuses.get(run.status, TaskResultStatus.RUNNING if running else TaskResultStatus.READY)
    error = run.error or (task.error if task else None)
    began = _moment(task.started_at) if task else None
    # Of earlier attempts pgflow keeps their number.
    result = _result(
        run.input,
        str(run.id),
        status,
        started_at=began,
        last_attempted_at=began,
        worker_ids=[str(task.worker_id or "")] * task.attempts if task else [],
        finished_at=_moment(run.ended_at),
        errors=[TaskError(exception_class_path=_class_path(error), traceback=_traceback(error))] if error else [],
    )
    if run.status == "completed":
        _set(result, _return_value=run.result)
    return result


def _result(message: dict[str, Any], id: str, status: Any, **more: Any) -> Any:
    path, args, kwargs, backend, queue_name, run_after, enqueued_at = (message[field] for field in _FIELDS)
    task = import_string(path)
    if not isinstance(task, Task):
        raise PermanentError(f"{path} is a {type(task).__name__} and no task: what @task makes must have that name")
    after = None if run_after is None else datetime.fromisoformat(run_after)
    task = task.using(backend=backend, queue_name=queue_name, run_after=after)
    known = {"enqueued_at": datetime.fromisoformat(enqueued_at), "args": args, "kwargs": kwargs, "backend": backend}
    return TaskResult(task=task, id=id, status=status, **{"errors": [], "finished_at": None, **known, **more})


def _set(result: Any, **values: Any) -> None:
    """The framework's results are frozen for everybody but for backends."""
    for name, value in values.items():
        object.__setattr__(result, name, value)


def _moment(moment: datetime | None) -> datetime | None:
    """A time as this project has them."""
    return moment if moment is None or settings.USE_TZ else timezone.make_naive(moment)


def _traceback(error: str) -> str:
    """The text of an error as Python's tracebacks go; as it is where that of other exceptions is in it, or no calls."""
    found = _WORDS_AND_CALLS.fullmatch(error)
    return f"Traceback (most recent call last):\n{found[2].rstrip()}\n{found[1]}\n" if found else error


def _class_path(error: str) -> str:
    """The exception's class, which is how the text of an error begins; PgflowError's for what no handler raised."""
    found = _RAISED.match(error)
    name = found[1] if found else ""
    if "." in name:
        return name
    known = isinstance(getattr(builtins, name, None), type)
    return f"builtins.{name}" if known else f"{PgflowError.__module__}.{PgflowError.__qualname__}"
