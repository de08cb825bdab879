"""The backend for Django's Tasks framework keeps what the framework promises."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import django
import psycopg
import pytest
from asgiref.sync import sync_to_async
from django.core.checks import run_checks
from django.db import connections, transaction
from django.test import override_settings
from django.utils import timezone

import pgflow_starter as pgflow
from pgflow_starter.django import client
from pgflow_starter.django.middleware import connections_closed
from pgflow_starter.django.task_api import TaskResultDoesNotExist, task_enqueued, task_finished, task_started
from pgflow_starter.django.tasks import queue_jobs
from tests.django.app import tasks
from tests.django.conftest import TASKS
from tests.support.starters import echo_job, running
from tests.support.waiting import eventually

if django.VERSION >= (6, 0):
    from django.tasks.exceptions import InvalidTask, TaskResultMismatch
else:
    from django_tasks.exceptions import InvalidTaskError as InvalidTask
    from django_tasks.exceptions import TaskResultMismatch


@pytest.fixture
def working(project: str) -> Iterator[None]:
    """A worker of all queues."""
    with running(project, jobs=queue_jobs().values(), middleware=[connections_closed]):
        yield


@pytest.fixture
def signals() -> Iterator[list[tuple[str, str, str]]]:
    """Which signal was sent, the id that it was about, and the status then."""
    sent: list[tuple[str, str, str]] = []
    named = {"enqueued": task_enqueued, "started": task_started, "finished": task_finished}

    def note(name: str) -> Any:
        return lambda sender, task_result, **_: sent.append((name, task_result.id, task_result.status))

    receivers = {name: note(name) for name in named}
    for name, receiver in receivers.items():
        named[name].connect(receiver)
    yield sent
    for name, receiver in receivers.items():
        named[name].disconnect(receiver)


def ended(result: Any) -> Any:
    """The result once its task has ended."""
    eventually(lambda: result.refresh() or result.is_finished, what="the task's end")
    return result


def test_what_is_enqueued_is_ready_and_the_same_when_it_is_read(project: str, signals: list[Any]) -> None:
    before = timezone.now()
    result = tasks.add.using(queue_name="E-mails").enqueue(1, b=(2, {"c": b"d"}))
    assert (result.status, result.attempts, result.errors, result.is_finished) == ("READY", 0, [], False)
    assert (result.args, result.kwargs, result.backend) == ([1], {"b": [2, {"c": "d"}]}, "default")
    assert before <= result.enqueued_at <= timezone.now()
    assert (result.started_at, result.last_attempted_at, result.finished_at) == (None, None, None)
    with pytest.raises(ValueError, match="Task has not finished yet"):
        _ = result.return_value
    assert tasks.add.get_result(result.id) == result
    assert client().run(result.id).flow_slug == "tasks_e_mails"
    assert signals == [("enqueued", result.id, "READY")]


def test_a_task_that_returns_is_successful(working: None, signals: list[Any]) -> None:
    result = tasks.send.enqueue("ada@example.org")
    assert ended(result).return_value == {"to": ["ada@example.org"]}
    assert (result.status, result.attempts, result.errors) == ("SUCCESSFUL", 1, [])
    assert result.enqueued_at <= result.started_at == result.last_attempted_at <= result.finished_at
    assert signals == [(name, result.id, status) for name, status in STAGES]
    assert ended(tasks.add.enqueue(1)).return_value == 2


STAGES = (("enqueued", "READY"), ("started", "RUNNING"), ("finished", "SUCCESSFUL"))


def test_a_task_that_takes_a_context_gets_it(working: None) -> None:
    result = tasks.told.enqueue(word="hello")
    expected = ["hello", result.id, "RUNNING", 1, [], {"word": "hello"}, True]
    assert ended(result).return_value == expected


def test_a_task_that_raises_each_time_has_failed_with_what_it_raised(working: None, signals: list[Any]) -> None:
    result = ended(tasks.fail.enqueue("no way"))
    assert (result.status, result.attempts, len(set(result.worker_ids))) == ("FAILED", 3, 1)
    (error,) = result.errors
    assert error.exception_class is tasks.OddError
    assert error.traceback.startswith("Traceback (most recent call last):\n  File ")
    assert error.traceback.endswith("tests.django.app.tasks.OddError: no way\n")
    assert "raise OddError(message)" in error.traceback
    with pytest.raises(ValueError, match="Task failed"):
        _ = result.return_value
    assert [(name, status) for name, _, status in signals] == [
        ("enqueued", "READY"),
        *[("started", "RUNNING")] * 3,
        ("finished", "FAILED"),
    ]


def test_attempts_are_made_again_or_not_as_in_any_job(working: None) -> None:
    again, never, later = tasks.fail_once.enqueue(), tasks.refuse.enqueue(), tasks.put_off.enqueue()
    wrong, stray = tasks.unstorable.enqueue(), tasks.renamed.enqueue()
    assert (ended(again).return_value, again.attempts) == (2, 2)
    assert [error.exception_class for error in again.errors] == [tasks.OddError]  # of the attempt before
    assert ended(never).errors[0].exception_class is pgflow.PermanentError
    assert (ended(later).return_value, later.attempts) == (1, 1)
    assert [error.exception_class for error in ended(wrong).errors] == [TypeError]
    assert stray.id not in {each.id for each in (again, never, later, wrong)}
    run = eventually(lambda: [r for r in [client().run(stray.id)] if r.finished])[0]
    assert "tests.django.app.tasks.undecorated is a function and no task" in (run.error or "")


def test_a_coroutine_is_run_and_its_connection_is_closed(working: None, project: str) -> None:
    assert ended(tasks.in_a_loop.enqueue("one")).return_value == 1
    sessions = "select count(*) from pg_stat_activity where datname = current_database() and query like '%app_note%'"
    with psycopg.connect(project) as admin:
        row = admin.execute(f"{sessions} and pid <> pg_backend_pid()").fetchone()
    assert row == (0,)


def test_a_task_is_not_run_before_its_time(project: str) -> None:
    at = datetime(2100, 1, 2, tzinfo=UTC)
    result = tasks.add.using(run_after=at).enqueue(1)
    assert tasks.add.get_result(result.id).task.run_after == at
    with override_settings(USE_TZ=False):
        assert ended_at(project) == [at]
        naive = tasks.add.using(run_after=datetime(2100, 1, 3)).enqueue(1)  # noqa: DTZ001 - as such projects have it
        assert tasks.add.get_result(naive.id).enqueued_at == naive.enqueued_at
    assert (tasks.add.get_result(result.id).status, len(ended_at(project))) == ("READY", 2)


def ended_at(project: str) -> list[datetime]:
    """When the messages of the default queue become visible."""
    with psycopg.connect(project) as admin:
        return [row[0].astimezone(UTC) for row in admin.execute("select vt from pgmq.q_tasks_default order by vt")]


def test_it_is_a_part_of_the_transaction(project: str) -> None:
    with transaction.atomic():
        lost = tasks.add.enqueue(1)
        assert tasks.add.get_result(lost.id) == lost
        transaction.set_rollback(True)
    with pytest.raises(TaskResultDoesNotExist):
        tasks.add.get_result(lost.id)


def test_coroutines_enqueue_and_read_as_well(project: str) -> None:
    async def enqueued() -> Any:
        result = await tasks.add.aenqueue(1)
        assert await tasks.add.aget_result(result.id) == result
        await result.arefresh()
        await sync_to_async(connections.close_all)()
        return result

    assert asyncio.run(enqueued()).status == "READY"


def test_what_is_no_result_of_this_task_is_told(project: str) -> None:
    result = tasks.add.enqueue(1)
    with pytest.raises(TaskResultMismatch):
        tasks.fail.get_result(result.id)
    others = [str(client().enqueue(job, 1).id) for job in (echo_job(), "tasks_default")]
    for nobody in (str(uuid4()), "no id", *others):
        with pytest.raises(TaskResultDoesNotExist, match=nobody):
            tasks.add.get_result(nobody)


def test_a_run_that_was_cancelled_is_a_task_that_failed(project: str) -> None:
    result = tasks.add.enqueue(1)
    client().cancel(result.id, "nobody wants it")
    result.refresh()
    assert (result.status, result.errors[0].exception_class) == ("FAILED", pgflow.PgflowError)
    assert result.errors[0].traceback == "nobody wants it"


def test_what_cannot_be_run_is_refused_where_it_is_asked_for(project: str) -> None:
    for wrong in ({"priority": 1}, {"queue_name": "no"}, {"run_after": datetime(2100, 1, 2)}):  # noqa: DTZ001 - wrong
        with pytest.raises(InvalidTask):
            tasks.add.using(**wrong)
    with pytest.raises(InvalidTask):
        tasks.declare(lambda: None)
    with pytest.raises(TypeError, match="Unsupported type"):
        tasks.add.enqueue(timedelta(1))
    assert client().runs() == ()


def test_bad_queues_and_options_are_errors_of_django_s_checks() -> None:
    def of(**more: Any) -> dict[str, Any]:
        return {**TASKS["default"], **more}

    long = "x" * 50
    configured = {
        "default": of(QUEUES=["e-mails", "E mails"]),
        "other": of(QUEUES=["e.mails"]),
        "long": of(QUEUES=[long]),
        "all": of(QUEUES=[]),
        "odd": of(QUEUES=["odd"], OPTIONS={"retries": 1, "timeout": 0}),
    }
    with override_settings(TASKS=configured):
        told = {error.msg for error in run_checks() if error.id == "pgflow.E002"}
    assert {text.partition("]: ")[0] for text in told} == {f"TASKS['{alias}'" for alias in configured}
    twice = (
        "TASKS['other']: queue 'e.mails' would be the job 'tasks_e_mails', which queue 'E mails' of TASKS['default'] is"
    )
    assert f"{twice}: give one of them another name" in told
    assert any("retries" in text for text in told)


def test_the_framework_knows_what_it_can_do() -> None:
    backend = tasks.add.get_backend()
    can = (backend.supports_defer, backend.supports_async_task, backend.supports_get_result, backend.supports_priority)
    assert can == (True, True, True, False)
