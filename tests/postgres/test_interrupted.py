"""Ctrl-C and timeouts by signal: an exception at any moment of a client's call on the main thread breaks nothing."""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from typing import Any
from uuid import UUID

import psycopg
import pytest

import pgflow_starter as pgflow
from pgflow_starter import DatabaseError, PgflowError
from pgflow_starter.postgres.client.waits import Look, Waits
from pgflow_starter.postgres.connections.database import Database
from pgflow_starter.threads import off_main as elsewhere
from pgflow_starter.threads.off_main import OffMain
from tests.support.interrupting import Interrupted, Interrupting, interrupted_everywhere
from tests.support.programs import finished
from tests.support.starters import echo_job, opened
from tests.support.threads import left_over, ours
from tests.support.waiting import eventually

MISSING = "00000000-0000-0000-0000-000000000000"


def on_a_thread(call: Callable[[], object]) -> object:
    """What the call returns on another thread, within ten seconds."""
    results: list[object] = []
    thread = threading.Thread(target=lambda: results.append(call()), daemon=True)
    thread.start()
    thread.join(10)
    assert results, "a call on another thread hangs"
    return results[0]


def refused(client: pgflow.PgflowClient) -> bool:
    """Whether it says that there is no such run."""
    try:
        client.run(MISSING)
    except pgflow.RunNotFoundError:
        return True
    return False


def whole(database: Database) -> bool:
    """Whether every connection is back in the pool, and nobody waits for one or is about to make one."""
    counts = database.counts()
    return counts.made > 0 and (counts.lent, counts.waiting, database.busy) == (0, 0, 0)


@contextmanager
def looks(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[set[UUID]]]:
    """Of which runs the database is asked for the statuses, by those who begin to wait in this block."""
    asked: list[set[UUID]] = []
    wait = Waits.wait

    def watched(waits: Waits, run: pgflow.Run, timeout: float | None, look: Look) -> str:
        def looked(run_ids: Collection[UUID], seconds: float) -> Mapping[UUID, str] | None:
            asked.append(set(run_ids))
            return look(run_ids, seconds)

        return wait(waits, run, timeout, looked)

    with monkeypatch.context() as patched:
        patched.setattr(Waits, "wait", watched)
        yield asked


@pytest.fixture
def interruptible(database: str) -> Any:
    profiling = sys.getprofile()
    yield database
    sys.setprofile(profiling)


def test_at_every_step_of_its_calls_the_others_go_on_and_no_connection_is_lost(
    interruptible: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = echo_job()
    with opened(interruptible, jobs=[job]) as (starter, runtime):
        starter.await_ready(10)
        client = starter.client
        done = client.enqueue(job, 1).wait(10)

        def others_go_on() -> None:
            assert on_a_thread(lambda: client.run(done.id).status) == "completed"
            eventually(lambda: whole(runtime.parts.database), 5, "every connection's return")

        for call in (
            lambda: client.run(done.id),
            lambda: client.enqueue(job, 2),
            lambda: client.enqueue(job, 3).wait(10),
        ):
            assert interrupted_everywhere(call, others_go_on, deeper=True) > 5
        assert client.enqueue(job, 4).wait(10).result == 4
        assert on_a_thread(lambda: client.enqueue(job, 5).wait(10).result) == 5
        with looks(monkeypatch) as asked:
            last = client.enqueue(job, 6).wait(10)
        assert set().union(*asked) == {last.id}  # no wait was left behind


def test_a_client_of_its_own_that_connects_anew_each_time_can_be_interrupted_at_every_step(interruptible: str) -> None:
    before = ours()
    for step in count(1):
        with pgflow.PgflowClient(interruptible) as client:
            try:
                with Interrupting(step, deeper=True):
                    client.run(MISSING)
            except Interrupted:
                assert on_a_thread(lambda: refused(client)) is True
            except pgflow.RunNotFoundError:
                break
    assert step > 10
    assert left_over(before, 5) == []


SIGNALS = """
import faulthandler, random, signal, sys, threading, time
import pgflow_starter as pgflow
from tests.support.starters import QUICK, echo_job
faulthandler.dump_traceback_later(50, exit=True)

class TooLong(BaseException):
    pass

def too_long(*_):
    raise TooLong

signal.signal(signal.SIGALRM, too_long)
random.seed(int(sys.argv[2]))
job = echo_job()
starter = pgflow.start(sys.argv[1], jobs=[job], **QUICK)
starter.await_ready(20)
client, cut_short = starter.client, 0
until = time.monotonic() + 6
while time.monotonic() < until:
    try:
        signal.setitimer(signal.ITIMER_REAL, random.uniform(0.00002, 0.002))
        try:
            random.choice([lambda: client.enqueue(job, 1), lambda: client.enqueue(job, 1).wait(5)])()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except TooLong:
        cut_short += 1
assert cut_short > 100, cut_short
results = []
other = threading.Thread(target=lambda: results.append(client.enqueue(job, 7).wait(20).result))
other.start()
other.join(25)
assert results == [7], results
began = time.monotonic()
starter.stop(2)
took = time.monotonic() - began
assert took < 4, took
"""


def test_signals_at_hundreds_of_moments_leave_a_starter_that_works_and_stops(database: str) -> None:
    done = finished("-c", SIGNALS, database, "1")
    assert (done.stderr, done.returncode) == ("", 0)


def test_a_signal_handler_may_call_the_client_on_top_of_a_call(interruptible: str) -> None:
    """At each step of one call another is made in full, as a handler that returns would."""
    with pgflow.PgflowClient(interruptible) as client:

        def call() -> None:
            assert refused(client)

        call()
        for step in count(1):
            made: list[int] = []

            def call_on_top() -> None:
                made.append(1)  # noqa: B023 - used at once
                call()

            with Interrupting(step, what=call_on_top):
                call()
            if not made:
                break
        assert step > 5


def test_only_the_main_thread_has_its_calls_made_elsewhere_and_one_thread_serves_them_in_turn() -> None:
    run = OffMain("pgflow-test")
    here = threading.get_ident()
    first = run(threading.get_ident)
    assert first != here
    eventually(lambda: run.idle == 1)
    assert run(threading.get_ident) == first
    assert on_a_thread(lambda: run(threading.get_ident) == threading.get_ident()) is True
    run.close()


def test_an_idle_thread_ends_and_the_next_call_has_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elsewhere, "IDLE_SECONDS", 0.05)
    before = ours()
    run = OffMain("pgflow-test")
    for _ in range(3):
        run(lambda: None)
        assert left_over(before, 5) == []
    run.close()


def test_what_a_call_raises_is_raised_here_and_leaves_no_cycle() -> None:
    class Mine:
        pass

    run = OffMain("pgflow-test")
    gc.collect()
    gc.disable()
    try:
        before = sum(type(o) is Mine for o in gc.get_objects())

        def fail() -> None:
            mine = Mine()
            raise ValueError(f"on purpose {mine is None}")

        with pytest.raises(ValueError, match="on purpose"):
            run(fail)
        assert sum(type(o) is Mine for o in gc.get_objects()) == before
    finally:
        gc.enable()
        run.close()


def no_threads(patched: pytest.MonkeyPatch) -> None:
    def none_left(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    patched.setattr(threading.Thread, "start", none_left)


def test_where_no_thread_is_to_be_had_calls_say_so_and_work_later(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pgflow.PgflowClient(database) as client:
        with monkeypatch.context() as patched:
            no_threads(patched)
            with pytest.raises(DatabaseError, match="no thread to spare"):
                client.enqueue("nobody", 1)
        with pytest.raises(pgflow.UnknownFlowError):
            client.enqueue("nobody", 1)


def test_on_other_threads_too_a_first_call_says_that_there_is_no_thread(
    empty_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors: list[BaseException] = []
    asking = threading.Event()

    def call() -> None:
        assert asking.wait(10)
        try:
            client.enqueue("nobody", 1)
        except PgflowError as error:
            errors.append(error)

    with pgflow.PgflowClient(empty_database) as client:
        thread = threading.Thread(target=call)
        thread.start()
        with monkeypatch.context() as patched:
            no_threads(patched)
            asking.set()
            thread.join(10)
    assert ["no thread to spare" in str(error) for error in errors] == [True]


def test_a_callers_connection_is_used_on_the_callers_own_thread(database: str) -> None:
    job = echo_job()
    with pgflow.PgflowClient(database) as client, psycopg.connect(database) as conn:
        with conn.transaction():
            run = client.enqueue(job, 1, connection=conn)
        assert run.status == "started"
