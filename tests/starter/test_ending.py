"""The end of a starter is said once, first: what it cuts short has not failed, and nothing of it is lost in between."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain, count, repeat
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import psycopg
import pytest

import pgflow_starter as pgflow
from pgflow_starter.core.trouble import TroubleKind
from pgflow_starter.postgres.stores.tasks import PostgresTaskStore
from pgflow_starter.shutdown import Shutdown
from pgflow_starter.testing import ManualClock, ManualTimers
from pgflow_starter.threads.dispatcher import Dispatcher
from pgflow_starter.worker import worker_actor as worker_module
from pgflow_starter.worker.heartbeat import Pulse
from pgflow_starter.worker.housekeeper_actor import HousekeeperActor, Look, Rhythm, Sweep, Tend
from tests.support.interrupting import Interrupting
from tests.support.starters import STRATEGIES, echo_job, opened, running
from tests.support.waiting import eventually

WAIT = 30.0
SELDOM: dict[str, Any] = {"min_poll_interval": 60, "max_poll_interval": 60, "notify_fallback_interval": 60}


class Ending:
    """In place of a worker's cell: the starter stops while the housekeeper tends it."""

    worker_ids = ()
    has_left = True

    def __init__(self, stop: Callable[[], object]) -> None:
        self._stop = stop
        self.tended = False

    @property
    def former(self) -> tuple[UUID, ...]:
        self.tended = True
        self._stop()
        return ()


class Pause:
    """In place of a step: who comes to it waits until it is let go, then takes it."""

    def __init__(self, step: Callable[..., Any]) -> None:
        self._step = step
        self.reached, self.go_on = threading.Event(), threading.Event()

    def __call__(self, *args: Any) -> Any:
        self.reached.set()
        assert self.go_on.wait(2 * WAIT)
        return self._step(*args)


@contextmanager
def stopping(starter: pgflow.Starter, pause: Pause) -> Iterator[None]:
    """While inside, somebody stops the starter and has come to the step; afterwards it has stopped."""
    stopper = threading.Thread(target=starter.stop)
    stopper.start()
    try:
        assert pause.reached.wait(WAIT)
        yield
    finally:
        pause.go_on.set()
        stopper.join(WAIT)
    assert not stopper.is_alive()


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Ours: the driver has a word of its own for a connection that is broken."""
    records = [record for record in caplog.records if record.name.startswith("pgflow_starter")]
    return [record.getMessage() for record in records if record.levelno >= logging.WARNING]


def query(conninfo: str, statement: str) -> list[Any]:
    with psycopg.connect(conninfo, autocommit=True) as connection:
        return connection.execute(statement).fetchall()


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_hundreds_of_idle_workers_stop_in_one_statement_and_on_no_thread_of_their_own(
    database: str, strategy: str, looked: set[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    said: list[Sequence[UUID]] = []
    started: list[str] = []
    say, start = PostgresTaskStore.workers_stopped, threading.Thread.start

    def saying(store: PostgresTaskStore, workers: Sequence[UUID]) -> None:
        said.append(workers)
        say(store, workers)

    def starting(thread: threading.Thread) -> None:
        started.append(thread.name)
        start(thread)

    jobs = [echo_job(f"j{i}") for i in range(300)]
    with opened(database, jobs=jobs, signal_strategy=strategy, **SELDOM) as (starter, runtime):
        starter.await_ready(60)
        cells = runtime.parts.workers.cells()
        eventually(lambda: looked == {job.slug for job in jobs} and not any(cell.busy for cell in cells), WAIT)
        monkeypatch.setattr(PostgresTaskStore, "workers_stopped", saying)
        monkeypatch.setattr(Dispatcher, "put_slow", lambda *_: pytest.fail("it needs no thread"))
        monkeypatch.setattr(threading.Thread, "start", starting)
        starter.stop()
    assert [len(workers) for workers in said] == [300]
    assert len(started) < 10, started  # the dispatcher makes up for threads that are slow on a busy machine
    assert warnings(caplog) == []
    assert query(database, "select count(*) from pgflow.workers where deprecated_at is null") == [(0,)]


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.8])
def test_a_stop_while_modules_register_fails_none_of_their_attempts(
    database: str, share: float, caplog: pytest.LogCaptureFixture
) -> None:
    jobs = [echo_job(f"j{i}") for i in range(70)]
    with opened(database, jobs=jobs, signal_strategy="notify") as (starter, runtime):
        eventually(lambda: sum(m.status.terminal for m in starter.status().modules) >= share * 70, WAIT)
        board = runtime.board
        starter.stop()
    failed = {pgflow.ModuleStatus.RETRYING, pgflow.ModuleStatus.FAILED_PERMANENT}
    assert not failed & {state.status for state in board.status().modules}
    assert warnings(caplog) == []


def test_between_the_word_and_the_rest_of_the_end_nobody_is_judged(
    database: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(database, jobs=[echo_job()], heartbeat_interval=0.05) as (starter, runtime):
        starter.await_ready(WAIT)
        (cell,) = runtime.parts.workers.cells()
        board = runtime.board
        before = board.status().modules
        pause = Pause(board.close)
        monkeypatch.setattr(board, "close", pause)
        with stopping(starter, pause):
            cell.troubles.begin(TroubleKind.UNWRITTEN, "the end", began=0.0)
            runtime.parts.worker_died("echo", ValueError("of the end"))
            query(database, "update pgflow.workers set deprecated_at = now() returning 1")
            _await_heartbeats(database)
            assert (cell.draining, cell.troubles.current, board.status().modules) == (False, None, before)
    assert warnings(caplog) == []


@pytest.mark.parametrize("who", ["starter", "supervisor"])
def test_who_says_that_it_has_stopped_is_not_deprecated_to_its_own_heartbeat(
    database: str, who: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    say, retire = PostgresTaskStore.workers_stopped, Pause(lambda: None)

    def saying(store: PostgresTaskStore, workers: Sequence[UUID]) -> None:
        say(store, workers)
        retire()  # said in the database, and not yet known here

    with opened(database, jobs=[echo_job()], heartbeat_interval=0.05) as (starter, runtime):
        starter.await_ready(WAIT)
        monkeypatch.setattr(PostgresTaskStore, "workers_stopped", saying)
        supervisor = runtime.tree.ref("workers")
        assert supervisor is not None
        ends = starter.stop if who == "starter" else lambda: supervisor.stop(timeout=WAIT)
        ender = threading.Thread(target=ends)
        ender.start()
        try:
            assert retire.reached.wait(WAIT)
            _await_heartbeats(database)
        finally:
            retire.go_on.set()
            ender.join(WAIT)
    assert "deprecated" not in caplog.text


def _await_heartbeats(database: str) -> None:
    beat = "select last_heartbeat_at from pgflow.workers"
    for _ in range(3):
        eventually(partial(_differs, database, beat, query(database, beat)), WAIT, "a heartbeat")


def _differs(database: str, statement: str, before: list[Any]) -> bool:
    return query(database, statement) != before


def test_a_task_that_a_thread_is_about_to_give_back_is_given_back_by_the_end_of_its_worker(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "CLAIM_PATIENCE", 0.1)
    job, give_back = echo_job(), PostgresTaskStore.give_back
    pause = Pause(give_back)
    steps: Iterator[Callable[..., Any]] = chain([pause], repeat(give_back))  # the first is the thread's

    def giving(*given: Any) -> Any:
        return next(steps)(*given)

    with opened(database, jobs=[job], shutdown_timeout=0.0) as (starter, runtime):
        starter.await_ready(WAIT)
        (cell,) = runtime.parts.workers.cells()
        monkeypatch.setattr(PostgresTaskStore, "give_back", giving)
        monkeypatch.setattr(cell.flights, "add", lambda *_: False)
        starter.client.enqueue(job, 1)
        assert pause.reached.wait(WAIT)
        try:
            starter.stop()
            assert query(database, "select status from pgflow.step_tasks") == [("queued",)]
        finally:
            pause.go_on.set()


def test_an_endless_stop_waits_for_what_runs(database: str) -> None:
    entered, release = threading.Event(), threading.Event()

    @pgflow.job("slow")
    def slow(message: Any, ctx: pgflow.TaskContext) -> str:
        entered.set()
        assert release.wait(WAIT)
        return "done"

    with opened(database, jobs=[slow]) as (starter, runtime):
        run = starter.client.enqueue(slow, None)
        assert entered.wait(WAIT)
        stopper = threading.Thread(target=starter.stop, args=(math.inf,))
        stopper.start()
        eventually(lambda: runtime.shutdown.begun)
        release.set()
        stopper.join(WAIT)
    with pgflow.PgflowClient(database) as client:
        assert client.run(run.id).result == "done"


def test_a_worker_whose_row_somebody_has_locked_keeps_no_other_from_being_said_to_have_stopped(
    database: str, caplog: pytest.LogCaptureFixture
) -> None:
    with running(database, jobs=[echo_job(f"j{i}") for i in range(3)]) as starter:
        starter.await_ready(WAIT)
        with psycopg.connect(database) as other:
            other.execute("select 1 from pgflow.workers where queue_name = 'j1' for update")
            starter.stop()
    assert query(database, "select queue_name from pgflow.workers where deprecated_at is null") == [("j1",)]
    (told,) = warnings(caplog)
    assert "the end of the workers could not be written" in told


def test_hundreds_of_modules_that_wait_to_register_take_no_thread_each_to_stop(
    database: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    started: list[str] = []
    start = threading.Thread.start

    def starting(thread: threading.Thread) -> None:
        started.append(thread.name)
        start(thread)

    with opened(database, jobs=[echo_job(f"j{i}") for i in range(300)]) as (starter, runtime):
        eventually(lambda: any(state.status.terminal for state in starter.status().modules), WAIT)
        board = runtime.board
        monkeypatch.setattr(threading.Thread, "start", starting)
        starter.stop()
    assert sum(not state.status.terminal for state in board.status().modules) > 100
    assert len(started) < 100, started  # those that the database was busy with are interrupted
    assert warnings(caplog) == []


def test_the_housekeeper_begins_nothing_any_more_once_the_starter_stops() -> None:
    clock = ManualClock()
    rhythm, shutdown = Rhythm(heartbeat=1, recovery=1, stale=1), Shutdown()
    cells = [Ending(lambda: shutdown.begin(clock.monotonic())) for _ in range(2)]
    workers = SimpleNamespace(cells=lambda: cells)
    housekeeper = HousekeeperActor(cast("Any", workers), clock, ManualTimers(), rhythm, Pulse(), shutdown)
    for message in (Tend(), Sweep(), Look()):
        housekeeper.on_receive(message)  # there is no store that it might ask
    assert [cell.tended for cell in cells] == [True, False]


def test_who_is_in_a_hurry_is_heard_at_any_step_of_one_who_is_not() -> None:
    """As a second Ctrl-C, on top of the stop of the first one, wherever the interpreter looks for signals."""
    for step in count(1):
        shutdown = Shutdown()
        interrupting = Interrupting(step, deeper=True, what=partial(shutdown.begin, 10.0))
        with interrupting:
            shutdown.begin(1000.0)
        if interrupting.left > 0:
            break
        assert (shutdown.begun, shutdown.deadline) == (True, 10.0), step
    assert step > 3


def test_a_stop_with_a_timeout_that_is_no_number_is_one_at_once(
    database: str, caplog: pytest.LogCaptureFixture
) -> None:
    ended: list[object] = []
    with running(database, jobs=[echo_job()], on_terminate=ended.append) as starter:
        starter.await_ready(WAIT)
        starter.stop(math.nan)
        with pytest.raises(pgflow.StarterStopped):
            starter.status()
    assert ended == []
    assert warnings(caplog) == []
