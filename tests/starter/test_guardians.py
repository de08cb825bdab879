"""The threads that are no actors die and are started again; and when too much dies, everybody is told."""

from __future__ import annotations

import threading
from typing import Any

import psycopg
import pytest

import pgflow_starter as pgflow
from pgflow_starter.postgres.connections.conninfo import Redactor, refuse_unreadable
from pgflow_starter.postgres.listening.wakeup import Wakeup
from pgflow_starter.starter.runtime import Runtime, _terminated
from pgflow_starter.threads.timers import TimerThread
from tests.support.starters import echo_job, opened, running
from tests.support.waiting import eventually


def _once(method: Any, died: threading.Event) -> Any:
    """The method, which kills its thread at the first call."""

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if not died.is_set():
            died.set()
            raise SystemExit("the thread is killed")
        return method(*args, **kwargs)

    return wrapped


def _restarts(starter: pgflow.Starter, child: str) -> int:
    return next(c.restarts for c in starter.which_children() if c.id == child)


def _wake_listener(runtime: Runtime) -> None:
    """Have its thread go round once more. A notification need not: it may be read on the way to the next wait."""
    assert runtime.parts.listener is not None
    runtime.parts.listener.unlisten("nobody's")


def test_a_timer_thread_that_dies_is_started_again_with_its_calls(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = echo_job()
    with running(database, jobs=[job]) as starter:
        starter.await_ready(10)
        died = threading.Event()
        monkeypatch.setattr(TimerThread, "await_due", _once(TimerThread.await_due, died))
        assert died.wait(10)
        eventually(lambda: _restarts(starter, "timers") == 1)
        # under the polling strategy it is timers that find the message
        assert starter.client.enqueue(job, 1).wait(10).result == 1


def test_a_listener_thread_that_dies_is_started_again_with_its_queues(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = echo_job()
    with opened(database, jobs=[job], signal_strategy="notify", notify_fallback_interval=600) as (starter, runtime):
        starter.await_ready(10)
        died = threading.Event()
        monkeypatch.setattr(Wakeup, "wait", _once(Wakeup.wait, died))
        _wake_listener(runtime)
        assert died.wait(10)
        eventually(lambda: _restarts(starter, "listener") == 1)
        for i in range(3):
            assert starter.client.enqueue(job, i).wait(5).result == i


def test_what_another_process_sends_while_the_listener_is_dead_is_found_at_once(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = echo_job()
    sent: list[pgflow.Run] = []
    with (
        opened(database, jobs=[job], signal_strategy="notify", notify_fallback_interval=600, notify_throttle=0) as (
            starter,
            runtime,
        ),
        pgflow.PgflowClient(database) as other,
    ):
        starter.await_ready(10)
        died = threading.Event()
        dying = _once(Wakeup.wait, died)

        def wait(self: Wakeup, *args: Any) -> Any:
            if not died.is_set():
                sent.append(other.enqueue(job, 1))
            return dying(self, *args)

        monkeypatch.setattr(Wakeup, "wait", wait)
        _wake_listener(runtime)
        assert died.wait(10)
        assert sent[0].wait(10).result == 1


def test_a_probe_thread_that_dies_is_started_again(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    job = echo_job()
    with running(database, jobs=[job]) as starter, psycopg.connect(database, autocommit=True) as admin:
        starter.await_ready(10)
        died = threading.Event()
        # the first thing that a probe does; looked up by name, so that a part which is there already meets it
        monkeypatch.setattr(
            "pgflow_starter.postgres.connections.server.refuse_unreadable", _once(refuse_unreadable, died)
        )
        admin.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where application_name = 'pgflow_starter' and datname = current_database()"
        )
        assert died.wait(10)
        eventually(lambda: _restarts(starter, "database") == 1)
        assert starter.client.enqueue(job, 1).wait(10).result == 1


def test_when_the_root_gives_up_callers_and_the_callback_are_told(
    database: str, monkeypatch: pytest.MonkeyPatch, release: threading.Event
) -> None:
    told: list[pgflow.StarterTerminated] = []
    waiting = threading.Event()
    errors: list[BaseException] = []

    class Slow:
        @staticmethod
        def __pgflow_definition__() -> None:
            release.wait()

    with opened(database, flows=[Slow], on_terminate=told.append) as (starter, runtime):

        def wait() -> None:
            waiting.set()
            try:
                starter.await_ready(timeout=None)
            except BaseException as error:
                errors.append(error)

        waiter = threading.Thread(target=wait)
        waiter.start()
        assert waiting.wait(5)
        eventually(lambda: any(c.id == "timers" and c.alive for c in starter.which_children()))
        monkeypatch.setattr(TimerThread, "await_due", _dies)
        runtime.parts.timers.after(0, lambda: None)
        waiter.join(60)
        assert [type(e) for e in errors] == [pgflow.StarterTerminated]
        assert isinstance(errors[0].__cause__, pgflow.PgflowError)
        eventually(lambda: told)
        assert "timers" in str(told[0])
        with pytest.raises(pgflow.StarterTerminated, match="gives up"):
            starter.status()
        release.set()


def _dies(self: TimerThread) -> Any:
    raise SystemExit("again and again")


def test_a_root_that_ends_without_an_error_is_told_in_words() -> None:
    redact = Redactor("password=secret")
    assert str(_terminated(None, redact)) == "the starter's supervisor has ended: it was stopped from outside"
    assert str(_terminated(RuntimeError("a secret"), redact)) == "the starter's supervisor gave up: a ***"
