"""Starters and forks: in a child nothing hangs, nothing of the parent's is touched, and lazy ones start anew."""

from __future__ import annotations

import os

import psycopg
import pytest

import pgflow_starter as pgflow
from tests.starter.forks import NOWHERE, script
from tests.support.starters import STRATEGIES, running


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
from pgflow_starter.starter.runtime import Runtime
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


def test_the_refusal_names_the_process_and_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    with running(NOWHERE) as starter, monkeypatch.context() as patched:
        pid = os.getpid()
        patched.setattr(os, "getpid", lambda: pid + 1)
        with pytest.raises(pgflow.ForkedError, match=rf"in process {pid}, .*lazy=True"):
            starter.status()
