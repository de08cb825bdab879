"""stop: graceful, idempotent, from anywhere, and nothing is left."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any

import psutil
import pykka
import pytest

import pgflow_starter as pgflow
from tests.support.starters import QUICK, STRATEGIES, echo_job, running
from tests.support.threads import ours
from tests.support.waiting import eventually

PATIENT: dict[str, Any] = {**QUICK, "shutdown_timeout": 60.0}


def test_after_stop_every_call_says_so_and_stop_itself_does_not(database: str) -> None:
    with running(database, jobs=[echo_job()]) as starter:
        proxy = starter.proxy()
        starter.stop()
        starter.stop()
        calls: list[Any] = [
            starter.status,
            starter.ready,
            starter.healthy,
            starter.await_ready,
            starter.which_children,
            starter.proxy,
            lambda: starter.client,
            lambda: starter.module_status("echo"),
            lambda: starter.retry_now("echo"),
            lambda: proxy.status().get(timeout=5),
        ]
        for call in calls:
            with pytest.raises(pgflow.StarterStopped):
                call()


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_no_thread_of_ours_is_left_when_stop_returns(database: str, strategy: str) -> None:
    starter = pgflow.start(database, jobs=[echo_job()], signal_strategy=pgflow.SignalStrategy(strategy), **QUICK)
    starter.await_ready(10)
    starter.stop()
    assert ours() == set()
    assert pykka.ActorRegistry.get_all() == []


def test_a_starter_can_be_stopped_while_it_is_starting(database: str) -> None:
    for _ in range(20):
        pgflow.start(database, jobs=[echo_job(f"j{i}") for i in range(5)], **QUICK).stop()
    assert ours() == set()


def test_a_start_that_a_signals_exception_interrupts_leaves_nothing(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    # The last thing that a start does: the tree runs already.
    monkeypatch.setattr("pgflow_starter.starter.runtime.run_patiently", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pgflow.start(database, jobs=[echo_job()], **QUICK)
    eventually(lambda: not ours(), what="the end of the tree")
    assert pykka.ActorRegistry.get_all() == []


def test_stopping_with_the_database_down_is_quick() -> None:
    starter = pgflow.start("host=127.0.0.1 port=1", jobs=[echo_job()], signal_strategy="notify", **PATIENT)
    began = time.monotonic()
    starter.stop()
    assert time.monotonic() - began < PATIENT["shutdown_timeout"] / 2
    assert ours() == set()


def test_running_tasks_end_before_stop_returns(database: str, release: threading.Event) -> None:
    entered = threading.Event()

    @pgflow.job("slow")
    def slow(message: Any, ctx: pgflow.TaskContext) -> str:
        entered.set()
        release.wait()
        return "done"

    starter = pgflow.start(database, jobs=[slow], **QUICK)
    run = starter.client.enqueue(slow, None)
    assert entered.wait(10)
    stopper = threading.Thread(target=starter.stop)
    stopper.start()
    release.set()
    stopper.join(10)
    with pgflow.PgflowClient(database) as client:
        assert client.run(run.id).result == "done"


def test_what_does_not_end_in_time_is_given_back_for_another_to_run(database: str, release: threading.Event) -> None:
    entered = threading.Event()
    attempts: list[int] = []
    contexts: list[pgflow.TaskContext] = []

    @pgflow.job("stubborn")
    def stubborn(message: Any, ctx: pgflow.TaskContext) -> int:
        attempts.append(ctx.attempt)
        contexts.append(ctx)
        entered.set()
        if len(attempts) == 1:
            release.wait()
        return len(attempts)

    starter = pgflow.start(database, jobs=[stubborn], **PATIENT)
    run = starter.client.enqueue(stubborn, None)
    assert entered.wait(10)
    began = time.monotonic()
    starter.stop(timeout=0.2)
    assert time.monotonic() - began < PATIENT["shutdown_timeout"] / 2
    assert contexts[0].cancelled.is_set()
    with running(database, jobs=[stubborn]) as second:
        assert second.client.run(run.id).wait(10).result == 2
    assert attempts == [1, 1]  # the first is not counted
    release.set()


def test_a_hundred_starts_and_stops_leak_nothing(database: str) -> None:
    job = echo_job()

    def cycle() -> None:
        starter = pgflow.start(database, jobs=[job], signal_strategy="notify", **QUICK)
        starter.await_ready(10)
        starter.stop()

    process = psutil.Process()
    for _ in range(10):
        cycle()
    gc.collect()
    files, memory = process.num_fds(), process.memory_info().rss
    for _ in range(100):
        cycle()
    gc.collect()
    assert ours() == set()
    assert process.num_fds() <= files
    assert process.memory_info().rss - memory < 6_000_000
    assert pykka.ActorRegistry.get_all() == []


def test_stop_may_be_called_from_a_handler_of_its_own(database: str) -> None:
    stopped = threading.Event()
    holder: list[pgflow.Starter] = []

    @pgflow.job("suicidal")
    def suicidal(message: Any, ctx: pgflow.TaskContext) -> str:
        holder[0].stop()
        stopped.set()
        return "bye"

    starter = pgflow.start(database, jobs=[suicidal], **QUICK)
    holder.append(starter)
    run = starter.client.enqueue(suicidal, None)
    assert stopped.wait(10)
    starter.stop()
    with pgflow.PgflowClient(database) as client:
        assert client.run(run.id).result == "bye"


SCRIPT = """
import os, signal, sys, threading
import pgflow_starter as pgflow
@pgflow.job("echo")
def echo(message, ctx):
    print("ran", flush=True)
    ctx.cancelled.wait(0.3)
    return message
starter = pgflow.start(sys.argv[1], jobs=[echo], signal_strategy="notify")
starter.await_ready(20)
if sys.argv[2] == "handler":
    def stop(*_):
        starter.stop()
        print("stopped", flush=True)
        sys.exit(0)
    signal.signal(signal.SIGTERM, stop)
    os.write(1, b"ready\\n")  # the handler may come while it is written, and writes as well
    starter.await_ready(timeout=None)
    while True:  # and not once and for ever: a signal may come just before a wait begins
        threading.Event().wait(0.1)
starter.client.enqueue("echo", 1)
if sys.argv[2] == "exception":
    raise RuntimeError("main dies")
"""


def test_a_signal_handler_may_stop_the_starter_of_its_own_thread(database: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT, database, "handler"], stdout=subprocess.PIPE, text=True
    ) as script:
        assert script.stdout is not None
        assert script.stdout.readline() == "ready\n"
        os.kill(script.pid, signal.SIGTERM)
        assert script.stdout.readline() == "stopped\n"
        assert script.wait(10) == 0


@pytest.mark.parametrize(("end", "code"), [("quietly", 0), ("exception", 1)])
def test_the_interpreters_exit_stops_a_starter_that_nobody_stopped(database: str, end: str, code: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, database, end], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == code, done.stderr
    with pgflow.PgflowClient(database) as client:
        del client
    assert "Fatal" not in done.stderr


def test_a_second_stop_in_a_hurry_shortens_the_first(database: str, release: threading.Event) -> None:
    entered = threading.Event()

    @pgflow.job("patient")
    def patient(message: Any, ctx: pgflow.TaskContext) -> None:
        entered.set()
        release.wait()

    starter = pgflow.start(database, jobs=[patient], **QUICK)
    starter.client.enqueue(patient)
    assert entered.wait(10)
    unhurried = threading.Thread(target=starter.stop, args=(60,))
    unhurried.start()
    starter.stop(timeout=0.1)
    unhurried.join(30)
    assert not unhurried.is_alive()
    release.set()
