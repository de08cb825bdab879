"""Starters and forks: in a child nothing hangs, nothing of the parent's is touched, and lazy ones start anew."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import psycopg
import pytest

import pgflow_starter as pgflow
from pgflow_starter.app.runtime import Runtime
from pgflow_starter.app.runtimes import Runtimes
from pgflow_starter.config import Settings
from tests.support.programs import finished
from tests.support.starters import QUICK, STRATEGIES, echo_job, running
from tests.support.threads import ours

NOWHERE = "host=127.0.0.1 port=1"

# What the scripts share. A child that takes 20 seconds says where it hangs, and fails.
PROLOGUE = """
import faulthandler, gc, multiprocessing, os, signal, sys, threading, warnings
import psycopg
import pgflow_starter as pgflow
faulthandler.register(signal.SIGALRM, chain=True)
warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)

@pgflow.job("echo")
def echo(message, ctx):
    return message

def started(**settings):
    quick = {"min_poll_interval": 0.05, "max_poll_interval": 0.1, "notify_throttle": 0, "shutdown_timeout": 5}
    return pgflow.start(sys.argv[1], jobs=[echo], **{**quick, **settings})

def in_child(call):
    pid = os.fork()
    if pid:
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    else:
        signal.alarm(20)
        call()
        gc.collect()
        sys.exit(0)

def refused(*calls):
    for call in calls:
        try:
            call()
        except pgflow.ForkedError:
            continue
        raise AssertionError(call)

def works(starter):
    assert starter.client.enqueue(echo, 1).wait(15).status == "completed"
"""


def script(text: str, *arguments: str) -> None:
    """Run it; it must succeed, silently."""
    done = finished("-c", PROLOGUE + text, *arguments)
    assert done.stderr == ""
    assert done.returncode == 0


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_child_is_refused_every_call_and_the_parent_goes_on_with_the_connections_it_had(
    database: str, strategy: str
) -> None:
    script(
        """
starter, alone = started(signal_strategy=sys.argv[2]), pgflow.PgflowClient(sys.argv[1])
starter.await_ready(15)
client, proxy, run = starter.client, starter.proxy(), alone.enqueue(echo, 0).wait(15)
future = proxy.status()

def child():
    refused(
        starter.status, starter.ready, starter.healthy, starter.await_ready, starter.which_children, starter.proxy,
        lambda: starter.client, lambda: starter.module_status("echo"), lambda: starter.retry_now("echo"),
        proxy.status, lambda: proxy.await_ready().get(), future.get, lambda: client.enqueue("echo", 1),
        lambda: client.run(run.id), lambda: alone.enqueue("echo", 1), run.refresh, run.wait,
    )
    starter.stop()
    proxy.stop().get()
    client.close()
    alone.close()
    assert repr(starter) == "Starter([echo])"

def connections(watcher):
    query = "select pid from pg_stat_activity where application_name = 'pgflow_starter'"
    return {pid for (pid,) in watcher.execute(query)}

watcher = psycopg.connect(sys.argv[1], autocommit=True)
before = connections(watcher)
in_child(child)
works(starter)
assert alone.run(run.id).finished
assert before <= connections(watcher), (before, connections(watcher))
watcher.close()
alone.close()
starter.stop()
""",
        database,
        strategy,
    )


def test_forks_in_the_midst_of_starting_and_working_leave_neither_side_hanging(database: str) -> None:
    script(
        """
def child():
    refused(starter.status)
    with started(signal_strategy="notify") as own:
        works(own)

for n in range(6):
    with started(signal_strategy="notify") as starter:
        runs = [starter.client.enqueue(echo, i) for i in range(5)] if n % 2 else []
        in_child(child)
        for run in runs:
            assert run.wait(15).status == "completed"
        with pgflow.PgflowClient(sys.argv[1]) as client:
            assert client.enqueue(echo, n).wait(15).result == n
""",
        database,
    )


def test_a_client_that_was_not_used_before_the_fork_is_the_childs(database: str) -> None:
    script(
        """
client, starter = pgflow.PgflowClient(sys.argv[1]), started()

def child():
    assert client.enqueue(echo, 1).wait(15).status == "completed"
    client.close()

in_child(child)
assert client.enqueue(echo, 1).wait(15).status == "completed"
client.close()
starter.stop()
""",
        database,
    )


def test_processes_of_multiprocessing_leave_the_parents_starter_alone(database: str) -> None:
    script(
        """
def child(n):
    refused(starter.status)
    with lazy:
        works(lazy)
    return n

starter, lazy = started(), started(lazy=True)
starter.await_ready(15)
fork = multiprocessing.get_context("fork")
process = fork.Process(target=child, args=(1,))
process.start()
process.join(30)
assert process.exitcode == 0
with fork.Pool(2) as pool:
    assert pool.map_async(abs, range(4)).get(30) == [0, 1, 2, 3]
starter.stop()
works(lazy)
lazy.stop()
""",
        database,
    )


def test_a_lazy_starter_starts_anew_in_a_child_and_stops_there_at_its_exit(database: str) -> None:
    script(
        """
def child():
    assert proxy.ready().get(timeout=10) in (True, False)
    refused(lambda: future.get(timeout=10))
    starter.await_ready(15)
    in_child(grandchild)

def grandchild():
    starter.await_ready(15)

starter = started(lazy=True, signal_strategy="notify")
in_child(lambda: starter.await_ready(15))
starter.await_ready(15)
proxy = starter.proxy()
future = proxy.status()
in_child(child)
in_child(starter.stop)
works(starter)
""",
        database,
    )
    with psycopg.connect(database) as conn:
        assert conn.execute("select count(*), count(deprecated_at) from pgflow.workers").fetchone() == (4, 4)


def test_a_first_call_under_way_at_the_fork_does_not_keep_the_childs(database: str) -> None:
    script(
        """
from pgflow_starter.app.runtime import Runtime
start, begun, released = Runtime.start, threading.Event(), threading.Event()

def slow_start(runtime):
    begun.set()
    assert released.wait(20)
    start(runtime)

Runtime.start = slow_start
starter = started(lazy=True)
caller = threading.Thread(target=starter.ready)
caller.start()
begun.wait(20)

def child():
    Runtime.start = start
    works(starter)

in_child(child)
released.set()
caller.join(20)
works(starter)
""",
        database,
    )


def test_a_lazy_starter_starts_at_its_first_call_and_neither_before_nor_by_repr_nor_by_with(database: str) -> None:
    with running(database, jobs=[echo_job()], lazy=True) as starter:
        assert repr(starter) == "Starter([echo])"
        assert ours() == set()
        starter.await_ready(10)
        assert starter.client.enqueue("echo", 1).wait(10).result == 1


def test_a_lazy_starters_settings_are_checked_by_start() -> None:
    with pytest.raises(ValueError, match=r"lazy must be True or False, got 'yes'; pool_size must be"):
        pgflow.start(NOWHERE, lazy="yes", pool_size=0)


def test_a_lazy_starter_that_is_stopped_before_its_first_call_never_starts() -> None:
    starter = pgflow.start(NOWHERE, jobs=[echo_job()], lazy=True)
    starter.stop()
    for call in (starter.status, starter.ready, starter.await_ready, starter.proxy, lambda: starter.client):
        with pytest.raises(pgflow.StarterStopped):
            call()
    starter.stop()
    assert ours() == set()


def test_first_calls_at_once_start_one_runtime() -> None:
    starter = pgflow.start(NOWHERE, jobs=[echo_job()], lazy=True, **QUICK)
    together, found = threading.Barrier(8), set()

    def call() -> None:
        together.wait(10)
        starter.ready()
        found.add(starter._runtime)

    callers = [threading.Thread(target=call) for _ in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(10)
    assert len(found) == 1
    assert sum(thread.name == "pgflow-database" for thread in ours()) == 1
    starter.stop()


def test_a_stop_beside_the_first_call_leaves_nothing_running() -> None:
    for _ in range(20):
        starter = pgflow.start(NOWHERE, jobs=[echo_job()], lazy=True, **QUICK)
        caller = threading.Thread(target=partial(_stopped_at_most, starter.ready))
        caller.start()
        starter.stop()
        caller.join(10)
        with pytest.raises(pgflow.StarterStopped):
            starter.ready()
        assert ours() == set()


def _stopped_at_most(call: Callable[[], object]) -> None:
    try:
        call()
    except pgflow.StarterStopped:
        return


class TestASignalHandlerOnTopOfTheFirstCall:
    """Told apart from a real one only by when it comes: just then."""

    def made(self, handler: Callable[[], object], *, while_starting: bool) -> Runtimes:
        handlers = [handler]

        def interrupted() -> None:
            while handlers:
                handlers.pop()()

        class Interrupted(Runtime):
            def start(self) -> None:
                if while_starting:
                    interrupted()
                super().start()

        def make() -> Runtime:
            if not while_starting:
                interrupted()
            return Interrupted(NOWHERE, (), Settings(shutdown_timeout=1))

        return Runtimes(make, lazy=True)

    @pytest.mark.parametrize("while_starting", [False, True])
    def test_may_make_a_call_itself(self, while_starting: bool) -> None:
        found: list[Any] = []
        runtimes = self.made(lambda: found.append(runtimes.get()), while_starting=while_starting)
        assert [runtimes.get()] == found
        runtimes.stop(None)()
        assert ours() == set()

    @pytest.mark.parametrize("while_starting", [False, True])
    def test_may_stop_it(self, while_starting: bool) -> None:
        def stop() -> None:
            runtimes.stop(None)()

        runtimes = self.made(stop, while_starting=while_starting)
        with pytest.raises(pgflow.StarterStopped):
            runtimes.get().board.check_open()
        runtimes.stop(None)()
        assert ours() == set()


def test_a_start_that_fails_leaves_the_next_call_to_try_again(monkeypatch: pytest.MonkeyPatch) -> None:
    starter = pgflow.start(NOWHERE, lazy=True, **QUICK)
    with monkeypatch.context() as patched:
        patched.setattr(Runtime, "start", _no_thread)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            starter.ready()
    assert starter.ready()
    starter.stop()


def _no_thread(_: Runtime) -> None:
    raise RuntimeError("can't start new thread")


def test_the_refusal_names_the_process_and_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    with running(NOWHERE) as starter, monkeypatch.context() as patched:
        pid = os.getpid()
        patched.setattr(os, "getpid", lambda: pid + 1)
        with pytest.raises(pgflow.ForkedError, match=rf"in process {pid}, .*lazy=True"):
            starter.status()
