"""`PgflowBackend`: a backend for Django's Tasks framework. Each of its queues is a job of pgflow."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from typing import Any
from uuid import UUID, uuid4

from django.core.checks import CheckMessage, Error
from django.utils import timezone

from pgflow_starter.core.definition import DEFAULT_MAX_ATTEMPTS
from pgflow_starter.core.flow import Job, job
from pgflow_starter.django.clients import client
from pgflow_starter.django.task_api import (
    BaseTaskBackend,
    TaskResult,
    TaskResultDoesNotExist,
    TaskResultStatus,
    task_backends,
    task_enqueued,
)
from pgflow_starter.django.task_runs import message_of, result_of, run_task
from pgflow_starter.errors import RunNotFoundError


class PgflowBackend(BaseTaskBackend):
    """For TASKS: `{"default": {"BACKEND": "pgflow_starter.django.tasks.PgflowBackend"}}`.

    Each of QUEUES is a job, `tasks_` and the queue's name, that `manage.py pgflow run` runs; OPTIONS are those of
    `pgflow_starter.job`. A task is enqueued on Django's connection of the database that PGFLOW names, within
    `transaction.atomic` as a part of that transaction, and read on it. Thread-safe.
    """

    supports_defer = True
    supports_async_task = True
    supports_get_result = True

    @cached_property
    def jobs(self) -> dict[str, Job]:
        """Its jobs by the names of their queues. Raises ValueError and TypeError for bad QUEUES and OPTIONS."""
        if not self.queues:
            raise ValueError("QUEUES must name the queues: each is a job, which a worker has to know")
        handler = partial(run_task, max_attempts=self.options.get("max_attempts", DEFAULT_MAX_ATTEMPTS))
        return {queue: job(_slug(queue), **self.options)(handler) for queue in sorted(self.queues)}

    def enqueue(self, task: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """As the framework asks for it. Raises InvalidTask, TypeError for what is no JSON, PgflowError."""
        self.validate_task(task)
        run_id = uuid4()
        result = TaskResult(
            task=task,
            id=str(run_id),
            status=TaskResultStatus.READY,
            enqueued_at=timezone.now(),
            started_at=None,
            finished_at=None,
            last_attempted_at=None,
            args=args,
            kwargs=kwargs,
            backend=self.alias,
            errors=[],
            worker_ids=[],
        )
        at = task.run_after
        if at is not None and timezone.is_naive(at):
            at = timezone.make_aware(at)
        client().enqueue(self.jobs[task.queue_name], message_of(result), run_id=run_id, at=at)
        task_enqueued.send(type(self), task_result=result)
        return result

    def get_result(self, result_id: str) -> Any:
        """As the framework asks for it. Raises TaskResultDoesNotExist, PgflowError, ImportError for the task."""
        try:
            seen = client().details(UUID(result_id), payloads=True)
        except (AttributeError, TypeError, ValueError, RunNotFoundError):
            raise TaskResultDoesNotExist(result_id) from None
        if seen.run.flow_slug not in {each.slug for each in self.jobs.values()}:
            raise TaskResultDoesNotExist(result_id)
        return result_of(seen)

    def check(self, **_: Any) -> Iterable[CheckMessage]:
        """As the framework asks for it."""
        return [Error(f"TASKS[{self.alias!r}]: {problem}", id="pgflow.E002") for problem in self._problems()]

    def _problems(self) -> Iterator[str]:
        try:
            _ = self.jobs
        except (ValueError, TypeError) as error:
            yield str(error)
        firsts: dict[str, tuple[str, str]] = {}
        for backend in _backends():
            for queue in sorted(backend.queues):
                alias, name = firsts.setdefault(_slug(queue), (backend.alias, queue))
                if backend.alias == self.alias and (alias, name) != (self.alias, queue):
                    yield (
                        f"queue {queue!r} would be the job {_slug(queue)!r}, which queue {name!r} of TASKS[{alias!r}]"
                        " is: give one of them another name"
                    )


def queue_jobs() -> dict[str, Job]:
    """Those of all backends of this kind in TASKS, by their slugs. Raises as `PgflowBackend.jobs`."""
    return {job.slug: job for backend in _backends() for job in backend.jobs.values()}


def _backends() -> list[PgflowBackend]:
    return [backend for backend in task_backends.all() if isinstance(backend, PgflowBackend)]


def _slug(queue: str) -> str:
    return "tasks_" + re.sub("[^a-z0-9_]", "_", queue.lower())
