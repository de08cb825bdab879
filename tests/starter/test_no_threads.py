"""No thread to be had for a while, as a process meets it at its limit (ulimit -u, pids.max): all goes on afterwards."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

import pgflow_starter as pgflow
from pgflow_starter.core.task import Outcome
from pgflow_starter.postgres.embedded.server import EmbeddedPostgres
from pgflow_starter.postgres.listening import errands as listener_errands
from pgflow_starter.postgres.listening import proof
from pgflow_starter.postgres.listening.subscriptions import Subscriptions
from pgflow_starter.postgres.setup.install import install
from pgflow_starter.postgres.stores import pgmq
from pgflow_starter.postgres.stores.tasks import PostgresTaskStore
from pgflow_starter.threads import cache as threads_module
from pgflow_starter.threads.cache import ThreadCache
from tests.support.databases import FAST, memory_folder
from tests.support.starters import echo_job, opened, running
from tests.support.waiting import eventually

NEVER = {"signal_strategy": "notify", "notify_fallback_interval": 600}
SOON = 0.05


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads_module, "AGAIN_INTERVAL", SOON)
    monkeypatch.setattr(listener_errands, "AGAIN_INTERVAL", SOON)
    for room in ("cell", "claims"):
        monkeypatch.setattr(f"pgflow_starter.worker.{room}.AGAIN_INTERVAL", SOON)
    monkeypatch.setattr(proof, "TIMEOUT", 0.5)


@contextmanager
def shortage(of: str = "") -> Iterator[list[str]]:
    """Inside there is no thread for a call whose name contains `of`; the names of those that were refused."""
    refused: list[str] = []
    run = ThreadCache.run

    def refuse(self: ThreadCache, call: Callable[[], object]) -> None:
        name = getattr(call, "func", call).__qualname__
        if of in name:
            refused.append(name)
            raise RuntimeError("can't start new thread")
        run(self, call)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(ThreadCache, "run", refuse)
        yield refused


@pytest.fixture
def back(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set when the LISTEN connection is in force again, and all have been told to look for what was sent meanwhile."""
    told, wake_all = threading.Event(), Subscriptions.wake_all

    def waking(queues: Subscriptions) -> None:
        wake_all(queues)
        told.set()

    monkeypatch.setattr(Subscriptions, "wake_all", waking)
    return told


def run_elsewhere(database: str, slug: str, given: int) -> None:
    """Started by somebody who wakes nobody but by pgmq's notification."""
    with psycopg.connect(database, autocommit=True) as conn:
        conn.execute("select pgflow.start_flow(%s, %s::text::jsonb)", (slug, str(given)))


def lose_the_listener(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as conn:
        conn.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where application_name = 'pgflow_starter' and query ilike '%listen%' and pid <> pg_backend_pid()"
        )


class Seen:
    """A job that notes what it was given."""

    def __init__(self) -> None:
        self.given: list[Any] = []

        @pgflow.job("seen")
        def seen(message: Any, ctx: pgflow.TaskContext) -> None:
            self.given.append(message)

        self.job = seen


def test_a_proof_without_a_thread_is_tried_again(database: str, back: threading.Event) -> None:
    seen = Seen()
    with running(database, jobs=[seen.job], **NEVER) as starter:
        starter.await_ready(10)
        with shortage("ListenerErrands.prove") as refused:
            lose_the_listener(database)
            eventually(lambda: len(refused) >= 2)
        assert back.wait(10)
        run_elsewhere(database, "seen", 7)
        eventually(lambda: 7 in seen.given)


def test_a_proof_that_raises_whatever_it_may_is_tried_again(
    database: str, back: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, raised = Seen(), threading.Event()
    notify = pgmq.notify

    def raise_once(conn: Any, channel: str) -> None:
        if not raised.is_set():
            raised.set()
            raise MemoryError
        notify(conn, channel)

    with running(database, jobs=[seen.job], **NEVER) as starter:
        starter.await_ready(10)
        monkeypatch.setattr(pgmq, "notify", raise_once)
        lose_the_listener(database)
        assert raised.wait(10)
        assert back.wait(10)
        run_elsewhere(database, "seen", 7)
        eventually(lambda: 7 in seen.given)


def test_notifications_are_enabled_again_when_there_are_threads_again(pg_version: int) -> None:
    seen = Seen()
    with EmbeddedPostgres(version=pg_version, settings=FAST, parent=memory_folder()) as server:
        install(server.conninfo())
        with running(server.conninfo(), jobs=[seen.job], **NEVER) as starter:
            starter.await_ready(10)
            with shortage("ListenerErrands._enable") as refused:
                server.kill()
                server.start()
                eventually(lambda: len(refused) >= 3, 20)

            def enabled() -> bool:
                with psycopg.connect(server.conninfo()) as admin:
                    return admin.execute("select from pgmq.notify_insert_throttle").fetchone() is not None

            eventually(enabled)
            run_elsewhere(server.conninfo(), "seen", 7)
            eventually(lambda: 7 in seen.given)


def test_a_task_whose_time_is_up_meanwhile_fails_afterwards(database: str, release: threading.Event) -> None:
    begun = threading.Event()

    @pgflow.job("hangs", timeout=1, max_attempts=1)
    def hangs(message: Any, ctx: pgflow.TaskContext) -> None:
        begun.set()
        release.wait()

    with running(database, jobs=[hangs]) as starter:
        run = starter.client.enqueue(hangs, 1)
        assert begun.wait(10)
        with shortage() as refused:
            eventually(lambda: [name for name in refused if "_give_up" in name])
        assert run.wait(10).status == "failed"
        release.set()


@pytest.mark.parametrize("strategy", ["polling", "notify"])
def test_outcomes_that_could_not_be_written_are_when_there_are_threads_again(
    database: str, strategy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, failed = echo_job(), threading.Semaphore(0)
    settle, refuse = PostgresTaskStore.settle, threading.Event()

    def settles(self: PostgresTaskStore, outcomes: Sequence[Outcome], answers: int = 1) -> None:
        if refuse.is_set():
            failed.release()
            raise pgflow.DatabaseError("lock timeout", sqlstate="55P03")
        settle(self, outcomes, answers)

    with running(database, jobs=[job], **{**NEVER, "signal_strategy": strategy}) as starter:
        starter.await_ready(10)
        monkeypatch.setattr(PostgresTaskStore, "settle", settles)
        refuse.set()
        run = starter.client.enqueue(job, 1)
        assert failed.acquire(timeout=10)
        with shortage() as refused:
            eventually(lambda: len([name for name in refused if "flush" in name]) >= 3)
            refuse.clear()
        assert run.wait(10).result == 1


def test_tasks_given_back_for_want_of_threads_are_claimed_again_and_no_notification_is_waited_for(
    database: str,
) -> None:
    together, begun = threading.Barrier(6), []

    @pgflow.job("meets")
    def meets(message: Any, ctx: pgflow.TaskContext) -> None:
        begun.append(message)
        together.wait(20)

    with running(database, jobs=[meets], **NEVER) as starter:
        starter.await_ready(10)
        # Each claim finds a thread, which takes one of its tasks; the others find none.
        with shortage("Crew._come") as refused, psycopg.connect(database, autocommit=True) as conn:
            conn.execute("select pgflow.start_flow('meets', to_jsonb(n)) from generate_series(1, 6) n")
            eventually(lambda: len(begun) == 6)
            counts = conn.execute("select distinct attempts_count from pgflow.step_tasks").fetchall()
        assert len(refused) > 1
        assert counts == [(1,)]  # what is given back is no attempt


@pytest.mark.parametrize("strategy", ["polling", "notify"])
def test_after_a_time_without_any_thread_work_goes_on(database: str, strategy: str) -> None:
    jobs = [echo_job(f"echo{i}") for i in range(3)]
    with running(database, jobs=jobs, **{**NEVER, "signal_strategy": strategy}) as starter:
        starter.await_ready(10)
        with shortage() as refused:
            runs = [starter.client.enqueue(job, i) for job in jobs for i in range(5)]
            eventually(lambda: len(refused) >= 5)
        assert [run.wait(20).result for run in runs] == [0, 1, 2, 3, 4] * 3
        assert starter.healthy()


def test_the_database_back_is_told_to_every_worker_whatever_one_makes_of_it(
    database: str, caplog: pytest.LogCaptureFixture
) -> None:
    jobs = [echo_job("a"), echo_job("b")]
    with opened(database, jobs=jobs) as (starter, runtime):
        starter.await_ready(10)
        workers, told = runtime.parts.workers, threading.Event()
        first, second = workers.cells()
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(first, "database_back", lambda: 1 / 0)
            patched.setattr(second, "database_back", told.set)
            workers.database_back()
        assert told.is_set()
        assert f"{first.definition.slug}: the database is back" in caplog.text
