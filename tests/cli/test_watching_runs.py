"""Who watches a run is told what goes wrong when it does, off a terminal too, by processes on a real database."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

import pgflow_starter as pgflow
from pgflow_starter.postgres.embedded.server import EmbeddedPostgres
from pgflow_starter.postgres.setup.install import install
from tests.cli.rig import PROGRAM
from tests.postgres.rights_rig import compiled
from tests.support.databases import FAST, memory_folder
from tests.support.programs import read_until, running
from tests.support.starters import echo_job
from tests.support.starters import running as starter_running
from tests.support.terminal import on_terminal

WAIT = 30.0
OFTEN = ("--watch", "--interval", "0.1")


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What the last attempt of `pay` waits for."""
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def shop(database: str, gate: threading.Event) -> Iterator[str]:
    """A database whose job `pay` fails at once, and in its second attempt when the gate is open, for good."""

    @pgflow.job("pay", max_attempts=2, base_delay=0)
    def pay(given: Any, ctx: pgflow.TaskContext) -> Any:
        if ctx.attempt == 2:
            gate.wait(WAIT)
        raise OSError(f"the bank is closed, {ctx.attempt}")

    with starter_running(database, jobs=[pay], signal_strategy="notify") as starter:
        starter.await_ready(WAIT)
        yield database
        gate.set()


def started(conninfo: str, job: Any = "pay") -> Any:
    with pgflow.PgflowClient(conninfo) as client:
        return client.enqueue(job, 1).id


def lonely(conninfo: str) -> Any:
    """A run of a job that nobody has."""
    with psycopg.connect(conninfo, autocommit=True) as admin:
        compiled(admin, echo_job("left"))
    return started(conninfo, "left")


def said(told: str) -> list[str]:
    return [line.partition(" s  ")[2] or line for line in told.splitlines()]


def test_who_waits_is_told_of_each_attempt_that_fails_before_the_run_does(shop: str, gate: threading.Event) -> None:
    with running(*PROGRAM, "flow", "start", "pay", "1", "--wait", env={"PGFLOW_DSN": shop}) as program:
        before = read_until(program.stderr, "pay: attempt 1 failed")
        gate.set()
        _, after = program.communicate()
    assert program.returncode == 1
    assert said(before) == ["pay: started, 0 of 1 tasks done", "pay: attempt 1 failed: OSError: the bank is closed, 1"]
    assert said(after) == [
        "pay: failed, 0 of 1 tasks done",
        "pay: failed for good in attempt 2: OSError: the bank is closed, 2",
        "Error: the run failed: OSError: the bank is closed, 2",
    ]


def test_on_a_terminal_who_waits_sees_the_attempt_that_failed(shop: str, gate: threading.Event) -> None:
    env = {"PGFLOW_DSN": shop, "NO_COLOR": "1"}
    with on_terminal(*PROGRAM, "flow", "start", "pay", "1", "--wait", env=env) as screen:
        screen.read_until("pay: attempt 1 failed: OSError: the bank is closed, 1")
        gate.set()
        screen.read_until("Error: the run failed: OSError: the bank is closed, 2")
        screen.rest()
    assert screen.process.returncode == 1


def test_who_watches_a_run_that_fails_is_told_why_and_leaves_with_exit_code_1(shop: str, gate: threading.Event) -> None:
    run_id = started(shop)
    with running(*PROGRAM, "runs", "show", str(run_id), *OFTEN, env={"PGFLOW_DSN": shop}) as program:
        read_until(program.stdout, "pay: attempt 1 failed: OSError: the bank is closed, 1")
        read_until(program.stdout, f"run {run_id} of pay: started")
        gate.set()
        told, errors = program.communicate()
    assert (program.returncode, errors) == (1, "")
    assert said(told) == [
        "pay: failed, 0 of 1 tasks done",
        "pay: failed for good in attempt 2: OSError: the bank is closed, 2",
        f"run {run_id} of pay: failed, OSError: the bank is closed, 2",
    ]


def test_on_a_low_terminal_who_watches_a_run_sees_the_attempt_that_failed(shop: str, gate: threading.Event) -> None:
    run_id = started(shop)
    env = {"PGFLOW_DSN": shop, "NO_COLOR": "1", "LINES": "8"}
    with on_terminal(*PROGRAM, "runs", "show", str(run_id), *OFTEN, env=env) as screen:
        screen.read_until("pay: attempt 1 failed: OSError: the bank is closed, 1")
        gate.set()
        screen.read_until(f"run {run_id}: failed, of pay")
        screen.rest()
    assert screen.process.returncode == 1


def test_as_json_each_look_at_a_run_is_an_object_on_a_line(shop: str, gate: threading.Event) -> None:
    run_id = started(shop)
    with running(*PROGRAM, "runs", "show", str(run_id), "--json", *OFTEN, env={"PGFLOW_DSN": shop}) as program:
        read_until(program.stdout, "the bank is closed, 1")
        gate.set()
        told, errors = program.communicate()
    assert (program.returncode, errors) == (1, "")
    looks = [json.loads(line) for line in told.splitlines()]
    assert {(look["status"], look["workers_alive"]) for look in looks[:-1]} <= {("started", 1)}
    assert (looks[-1]["status"], looks[-1]["workers_alive"]) == ("failed", None)


def test_a_run_that_nobody_runs_is_told_to_be_one_until_somebody_does(database: str) -> None:
    run_id = lonely(database)
    with running(*PROGRAM, "runs", "show", str(run_id), *OFTEN, env={"PGFLOW_DSN": database}) as program:
        read_until(program.stdout, "nobody runs it: no worker of left is alive; start a starter that has it")
        with starter_running(database, jobs=[echo_job("left")]):
            told, errors = program.communicate()
    assert (program.returncode, errors) == (0, "")
    assert said(told)[-2:] == ["left: completed, 1 of 1 tasks done", f"run {run_id} of left: completed"]


def test_who_waited_in_vain_for_a_run_that_nobody_runs_is_told_so(database: str) -> None:
    lonely(database)
    with running(*PROGRAM, "flow", "start", "left", "1", "--wait", "0", env={"PGFLOW_DSN": database}) as program:
        _, errors = program.communicate()
    assert program.returncode == 3
    nobody = "nobody runs it: no worker of left is alive; start a starter that has it"
    assert said(errors) == [
        "left: started, 0 of 1 tasks done",
        nobody,
        f"Error: the run is not finished after 0 s and goes on; {nobody}",
    ]


def test_a_run_that_is_cancelled_while_it_is_watched_is_told_to_be(database: str) -> None:
    run_id = lonely(database)
    with running(*PROGRAM, "runs", "show", str(run_id), *OFTEN, env={"PGFLOW_DSN": database}) as program:
        read_until(program.stdout, "of left: started")
        with pgflow.PgflowClient(database) as client:
            client.cancel(run_id, "ordered twice")
        told, _ = program.communicate()
    assert program.returncode == 1
    *parts, last = said(told)
    assert set(parts) == {"left: failed, 0 of 1 tasks done", "left: failed: ordered twice"}  # as a look met them
    assert last == f"run {run_id} of left: failed, ordered twice"


@pytest.mark.parametrize("command", [("runs", "show"), ("flow", "start", "left", "1", "--wait", "--run-id")])
def test_a_run_that_is_deleted_while_it_is_watched_is_told_to_be(database: str, command: tuple[str, ...]) -> None:
    run_id = lonely(database)
    more = OFTEN if command[0] == "runs" else ()
    with running(*PROGRAM, *command, str(run_id), *more, env={"PGFLOW_DSN": database}) as program:
        read_until(program.stdout if more else program.stderr, "nobody runs it")
        with pgflow.PgflowClient(database) as client:
            client.delete_flow("left")
        _, errors = program.communicate()
    assert program.returncode == 1
    assert errors.startswith(f"Error: run {run_id} ")
    assert "was deleted" in errors
    assert len(errors.splitlines()) == 1


def test_an_outage_is_told_once_and_waited_out(pg_version: int) -> None:
    with EmbeddedPostgres(version=pg_version, settings=FAST, parent=memory_folder()) as server:
        dsn = server.conninfo()
        install(dsn)
        run_id = lonely(dsn)
        with running(*PROGRAM, "runs", "show", str(run_id), *OFTEN, env={"PGFLOW_DSN": dsn}) as program:
            read_until(program.stdout, "of left: started")
            server.stop()
            read_until(program.stdout, "the database cannot be reached")
            server.start()
            read_until(program.stdout, "the database is back")
            program.send_signal(signal.SIGINT)
            program.communicate()
    assert program.returncode == 130


@pytest.mark.parametrize("more", [(), ("--json",)], ids=["lines", "json"])
def test_who_watches_for_a_reader_that_has_gone_leaves_quietly(database: str, more: tuple[str, ...]) -> None:
    run_id = lonely(database)
    command = ("runs", "show", str(run_id), "--watch", "--interval", "3600", *more)
    with running(*PROGRAM, *command, env={"PGFLOW_DSN": database}) as program:
        assert program.stdout is not None
        read_until(program.stdout, str(run_id))
        program.stdout.close()
        program.wait()
        assert program.stderr is not None
        assert (program.returncode, program.stderr.read()) == (1, "")
