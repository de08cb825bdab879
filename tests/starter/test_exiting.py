"""However a process ends that runs a starter: no hang, tasks that run may end, and the worker says that it stopped."""

from __future__ import annotations

import signal
import subprocess
import time
from typing import Any

import psycopg
import pytest

import pgflow_starter as pgflow
from tests.support.programs import finished, read_until, running
from tests.support.starters import running as starter_running

SCRIPT = """
import signal, sys, threading
import pgflow_starter as pgflow

database, way, shutdown_timeout = sys.argv[1], sys.argv[2], float(sys.argv[3])
entered, main_ends = threading.Event(), threading.Event()

@pgflow.job("slow")
def slow(seconds, ctx):
    if way == "its own handler":
        starter.stop()
    entered.set()
    main_ends.wait(20)
    ctx.cancelled.wait(seconds)
    return "done"

if way == "sigterm, handled":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))
starter = pgflow.start(
    database, jobs=[slow], signal_strategy="notify", shutdown_timeout=shutdown_timeout, heartbeat_interval=0.1,
    stale_threshold=0.3, lazy=way == "lazy", on_terminate=lambda error: print("terminated", flush=True),
)
if way in ("at once", "lazy"):
    sys.exit(0)
print(starter.client.enqueue(slow, float(sys.argv[4])).id, flush=True)
assert entered.wait(20)
if way != "a task without end":
    main_ends.set()
print("entered", flush=True)
match way:
    case "sys.exit":
        sys.exit(4)
    case "exception":
        raise RuntimeError("main dies")
    case "a stop on another thread":
        threading.Thread(target=starter.stop, daemon=True).start()
    case "sigterm" | "sigterm, handled" | "ctrl-c":
        while True:  # and not once and for ever: a signal may come just before a wait begins
            threading.Event().wait(0.1)
"""
SEVERAL = """
import atexit, sys, threading, time
import pgflow_starter as pgflow

database, count, shutdown_timeout = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
atexit.register(lambda: print(time.monotonic() - began, flush=True))

def module(number, entered):
    @pgflow.job(f"hangs{number}")
    def hangs(message, ctx):
        entered.set()
        threading.Event().wait(60)
    return hangs

for number in range(count):
    entered = threading.Event()
    job = module(number, entered)
    starter = pgflow.start(database, jobs=[job], shutdown_timeout=shutdown_timeout)
    starter.client.enqueue(job, 1)
    assert entered.wait(20)
starter = None
began = time.monotonic()
"""
SIGNALS = {"sigterm": signal.SIGTERM, "sigterm, handled": signal.SIGTERM, "ctrl-c": signal.SIGINT}


def ended(database: str, way: str, *, seconds: float = 0.5, shutdown_timeout: float = 10.0) -> tuple[int, str, str]:
    """The script's exit code, its run's id and what it had to complain about."""
    with running("-c", SCRIPT, database, way, str(shutdown_timeout), str(seconds)) as script:
        said = read_until(script.stdout, "entered")
        if way in SIGNALS:
            script.send_signal(SIGNALS[way])
        _, errors = script.communicate()
    assert "Fatal Python error" not in errors
    return script.returncode, said.splitlines()[0], errors


def stopped_workers(database: str) -> list[bool]:
    with psycopg.connect(database) as conn:
        return [stopped for (stopped,) in conn.execute("select deprecated_at is not null from pgflow.workers")]


@pytest.mark.parametrize(
    ("way", "code", "last_line"),
    [
        ("the end of main", 0, ""),
        ("sys.exit", 4, ""),
        ("exception", 1, "RuntimeError: main dies"),
        ("sigterm, handled", 3, ""),
        ("ctrl-c", -signal.SIGINT, "KeyboardInterrupt"),
        ("its own handler", 0, ""),
        ("a stop on another thread", 0, ""),
    ],
)
def test_the_task_that_runs_may_end_and_the_worker_says_that_it_stopped(
    database: str, way: str, code: int, last_line: str
) -> None:
    returned, run_id, errors = ended(database, way)
    assert errors.splitlines()[-1:] == [last_line] * bool(last_line), errors
    assert returned == code
    assert stopped_workers(database) == [True]
    with pgflow.PgflowClient(database) as client:
        assert client.run(run_id).result == "done"


def test_a_task_that_does_not_end_is_given_back_and_the_exit_waits_no_longer(database: str) -> None:
    began = time.monotonic()
    returned, run_id, errors = ended(database, "a task without end", shutdown_timeout=0.3)
    assert time.monotonic() - began < 10
    assert returned == 0
    assert "1 tasks did not end in time and are given back" in errors
    assert stopped_workers(database) == [True]
    assert finishes_elsewhere(database, run_id) == 1


def test_sigterm_without_a_handler_ends_it_on_the_spot_and_another_process_runs_the_task(database: str) -> None:
    returned, run_id, errors = ended(database, "sigterm", seconds=60)
    assert (returned, errors) == (-signal.SIGTERM, "")
    assert stopped_workers(database) == [False]
    assert finishes_elsewhere(database, run_id) == 2  # the worker was not heard of again


def test_several_starters_stop_at_the_same_time(database: str) -> None:
    done = finished("-c", SEVERAL, database, "4", "1.5")
    assert "Fatal Python error" not in done.stderr
    assert done.returncode == 0
    assert 1.4 < float(done.stdout) < 4.0  # one after the other they would take 6
    assert stopped_workers(database) == [True] * 4


def finishes_elsewhere(database: str, run_id: str) -> Any:
    """The attempt in which another starter finished the run."""

    @pgflow.job("slow")
    def slow(seconds: float, ctx: pgflow.TaskContext) -> int:
        return ctx.attempt

    rhythm = {"heartbeat_interval": 0.1, "stale_threshold": 0.3, "recovery_interval": 0.1}
    with starter_running(database, jobs=[slow], **rhythm) as starter:
        return starter.client.run(run_id).wait(20).result


def test_an_exit_right_after_the_start_does_not_wait_for_it(database: str) -> None:
    done = exited(database, "at once")
    assert "Fatal Python error" not in done.stderr
    assert (done.returncode, done.stdout) == (0, "")


def test_an_exit_with_the_database_down_does_not_wait_for_it() -> None:
    done = exited("host=127.0.0.1 port=1", "at once")
    assert "Fatal Python error" not in done.stderr
    assert done.returncode == 0


def test_a_lazy_starter_that_nobody_called_leaves_nothing_to_wait_for(database: str) -> None:
    done = exited(database, "lazy")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert stopped_workers(database) == []


def exited(database: str, way: str) -> subprocess.CompletedProcess[str]:
    """The script as it ended, well before what a stop may wait for."""
    began = time.monotonic()
    done = finished("-c", SCRIPT, database, way, "55", "0")
    assert time.monotonic() - began < 50
    return done
