"""`status`: what a running starter says over HTTP, as a table, as JSON, and live."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from pgflow_starter.clock import SystemClock
from pgflow_starter.core.state import (
    FastLaneState,
    Outage,
    StarterStatus,
)
from tests.cli.rig import ERROR, NOW, PROGRAM, RETRYING, UNWELL, WELL, WORKER, Starter, answer
from tests.support.commands import call
from tests.support.programs import environment, read_until, running
from tests.support.stub_web import StubWeb
from tests.support.terminal import on_terminal
from tests.support.waiting import eventually


def test_what_is_well_is_exit_code_0_and_a_table(web: StubWeb) -> None:
    result = call("status", f"http://127.0.0.1:{web.port}/")
    assert (result.exit_code, result.stderr) == (0, "")
    lines = [" ".join(line.split()) for line in result.stdout.splitlines() if line.strip()]
    assert lines[0] == f"http://127.0.0.1:{web.port}/status: ready, healthy, started 3 min ago"
    assert "order flow succeeded 2" in lines
    assert lines[-1] == "order running 3 of 10 1,234 5 0"


def test_what_is_not_ready_is_exit_code_1_and_says_all_of_it(web: StubWeb, starter: Starter) -> None:
    outage = Outage(NOW - timedelta(seconds=90), "Connection refused")
    starter.reply = ("200 OK", answer(replace(UNWELL, outage=outage)))
    result = call("status", env={"PGFLOW_URL": f"127.0.0.1:{web.port}"})
    assert result.exit_code == 1
    assert "not ready, healthy" in result.stdout
    assert "the database is away for 90 s: Connection refused" in result.stdout
    assert "in 7.0 s" in result.stdout
    said = " ".join(result.stdout.split())
    assert (
        "press, last error: phase notify_db: the queue is [locked] [55P03]; see docs/troubleshooting.md#locked" in said
    )
    assert "Connection refused; see docs/troubleshooting.md#database-away" in said


@pytest.mark.parametrize(
    ("lane", "line"),
    [
        (FastLaneState(True, "for core 0.8.1"), "fast lane on, for core 0.8.1"),
        (FastLaneState(False, "by the [setting]"), "fast lane off: by the [setting]"),
    ],
)
def test_whether_the_fast_lane_is_on_is_said_with_the_reason(
    web: StubWeb, starter: Starter, lane: FastLaneState, line: str
) -> None:
    starter.reply = ("200 OK", answer(replace(WELL, fast_lane=lane)))
    result = call("status", f"127.0.0.1:{web.port}")
    assert (result.exit_code, line in result.stdout.splitlines()) == (0, True)
    told = json.loads(call("status", f"127.0.0.1:{web.port}", "--json").stdout)
    assert told["fast_lane"] == {"on": lane.on, "reason": lane.reason}


@pytest.mark.parametrize(
    ("status", "worker"),
    [(replace(WELL, healthy=False), WORKER), (WELL, {**WORKER, "alive": False, "lost": True})],
    ids=["not healthy", "a worker is lost"],
)
def test_ready_alone_is_not_well(web: StubWeb, starter: Starter, status: StarterStatus, worker: Any) -> None:
    starter.reply = ("200 OK", answer(status, workers=[worker]))
    assert call("status", f"127.0.0.1:{web.port}").exit_code == 1


TROUBLE = {
    "kind": "claims_refused",
    "reason": "tasks cannot be claimed: permission denied for table runs",
    "since": NOW.isoformat(),
    "error_type": "42501",
    "scope": "all",
}


def test_what_keeps_a_worker_from_its_work_is_told(web: StubWeb, starter: Starter) -> None:
    starter.reply = ("200 OK", answer(UNWELL, workers=[{**WORKER, "trouble": TROUBLE}]))
    result = call("status", f"127.0.0.1:{web.port}")
    assert result.exit_code == 1
    assert "order stuck 3 of 10" in " ".join(result.stdout.split())
    said = " ".join(result.stdout.split())
    assert (
        "worker of order: tasks cannot be claimed: permission denied for table runs; see docs/troubleshooting.md"
        in said
    )
    assert "#claims-refused" in said
    some = {**TROUBLE, "scope": "some", "reason": "two \x1b[31mmessages"}
    starter.reply = ("200 OK", answer(workers=[{**WORKER, "trouble": some}]))
    result = call("status", f"127.0.0.1:{web.port}")
    assert result.exit_code == 0
    assert "order running 3 of 10" in " ".join(result.stdout.split())
    assert "worker of order: two [31mmessages" in result.stdout


def test_watching_tells_when_trouble_begins_and_when_it_is_over(web: StubWeb, starter: Starter) -> None:
    starter.reply = ("200 OK", answer(workers=[{**WORKER, "trouble": TROUBLE}]))
    with running(*PROGRAM, "status", f"127.0.0.1:{web.port}", "--watch", "--interval", "0.1") as program:
        read_until(program.stdout, "worker of order: tasks cannot be claimed")
        starter.reply = ("200 OK", answer())
        read_until(program.stdout, "worker of order: its trouble is over")
        program.send_signal(signal.SIGINT)
        program.communicate()


def test_a_starter_that_has_ended_says_so(web: StubWeb, starter: Starter) -> None:
    ended = {"error": "StarterTerminated", "reason": "the starter's supervisor gave up"}
    starter.reply = ("503 Service Unavailable", json.dumps(ended).encode())
    result = call("status", f"127.0.0.1:{web.port}")
    assert result.exit_code == 1
    assert "the starter has ended, StarterTerminated: the starter's supervisor gave up" in result.stdout
    assert json.loads(call("status", f"127.0.0.1:{web.port}", "--json").stdout) == ended


def test_what_a_starter_says_moves_no_cursor(web: StubWeb, starter: Starter) -> None:
    evil = "\x1b[2J\x9b31m"
    error = replace(ERROR, reason=f"{evil} ERROR", error_type=evil)
    state = replace(RETRYING, module=evil, slug=evil, last_error=error)
    starter.reply = ("200 OK", answer(replace(UNWELL, modules=(state,), outage=Outage(NOW, evil))))
    shown = call("status", f"127.0.0.1:{web.port}").output
    starter.reply = ("503 Gone", json.dumps({"error": evil, "reason": evil}).encode())
    shown += call("status", f"127.0.0.1:{web.port}").output
    assert "\x1b" not in shown
    assert "\x9b" not in shown
    assert "[2J" in shown


def test_as_json_it_is_what_the_starter_said_in_one_line(web: StubWeb, starter: Starter) -> None:
    starter.reply = ("200 OK", answer(UNWELL, something="new"))
    result = call("status", f"127.0.0.1:{web.port}", "--json")
    assert result.exit_code == 1
    assert len(result.stdout.splitlines()) == 1
    assert json.loads(result.stdout) == json.loads(starter.reply[1])


@pytest.mark.parametrize(
    "body",
    [b"", b"hello", b"[]", b"{}", b"null", answer().replace(b"succeeded", b"unheard of"), b"\xff", answer(modules=[7])],
    ids=lambda body: body[:12].decode("latin-1"),
)
def test_what_no_starter_would_say_is_exit_code_3(web: StubWeb, starter: Starter, body: bytes) -> None:
    starter.reply = ("200 OK", body)
    result = call("status", f"127.0.0.1:{web.port}")
    assert (result.exit_code, result.stdout) == (3, "")
    assert "what answers there is not a starter's status; is a starter there" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_nobody_there_is_exit_code_3_in_one_line() -> None:
    result = call("status", "127.0.0.1:1")
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr.startswith("Error: no status from http://127.0.0.1:1/status: Connection refused; is a starter")
    assert len(result.stderr.splitlines()) == 1


def test_who_takes_the_call_and_says_nothing_is_not_waited_for_longer_than_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        result = call("status", f"127.0.0.1:{silent.getsockname()[1]}", "--timeout", "0.2")
    assert result.exit_code == 3
    assert "timed out" in result.stderr


@contextmanager
def dripping() -> Iterator[int]:
    """The port of a server that sends a head without end, a byte every 20 ms."""
    over = threading.Event()

    def drip() -> None:
        taken, _ = listener.accept()
        with taken, contextlib.suppress(OSError):
            taken.sendall(b"HTTP/1.1 200 OK\r\nX: ")
            while not over.wait(0.02):
                taken.sendall(b"x")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=drip, name="dripping", daemon=True)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            over.set()
            thread.join(10)


def test_who_drips_a_head_is_not_waited_for_longer_than_said() -> None:
    clock = SystemClock()
    with dripping() as port:
        began = clock.monotonic()
        result = call("status", f"127.0.0.1:{port}", "--timeout", "0.3")
        took = clock.monotonic() - began
        # The question's own thread ends with it: who watches asks again and again.
        eventually(lambda: not any(thread.name == "pgflow-status" for thread in threading.enumerate()), 5)
    assert result.exit_code == 3
    assert "timed out: no whole answer within 0.3 s" in result.stderr
    assert took < 3


@pytest.mark.parametrize(
    "body",
    [b"[" * 200_000, answer(workers=[{**WORKER, "slots": float("inf")}]), answer(modules=[{"a": "b"}])],
    ids=["nested deeply", "infinite", "a module of nothing"],
)
def test_numbers_and_depths_that_are_too_large_are_no_status(web: StubWeb, starter: Starter, body: bytes) -> None:
    starter.reply = ("200 OK", body)
    result = call("status", f"127.0.0.1:{web.port}")
    assert (result.exit_code, result.stdout, len(result.stderr.splitlines())) == (3, "", 1)
    assert "what answers there is not a starter's status" in result.stderr


@pytest.mark.parametrize("word", ["ready", "healthy"])
def test_a_word_is_no_yes(web: StubWeb, starter: Starter, word: str) -> None:
    starter.reply = ("200 OK", answer(WELL, **{word: "no"}))
    assert call("status", f"127.0.0.1:{web.port}").exit_code == 1


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8:strict"])
def test_what_the_output_cannot_encode_is_escaped(web: StubWeb, starter: Starter, encoding: str) -> None:
    state = replace(RETRYING, module="größe", last_error=replace(ERROR, reason="„x“ fehlt 日本 \U0001f600 \udce9"))
    starter.reply = ("200 OK", answer(replace(UNWELL, modules=(state,))))
    command = (*PROGRAM, "status", f"127.0.0.1:{web.port}")
    table, told = (
        subprocess.run(
            [sys.executable, *command, *more],
            env=environment({"PYTHONIOENCODING": encoding}),
            capture_output=True,
            timeout=60,
            check=False,
        )
        for more in ((), ("--json",))
    )
    codec = encoding.partition(":")[0]
    assert (table.returncode, table.stderr, told.returncode, told.stderr) == (1, b"", 1, b"")
    assert ("gr\\xf6\\xdfe" if codec == "ascii" else "größe") in table.stdout.decode(codec)
    assert json.loads(told.stdout.decode(codec)) == json.loads(starter.reply[1])


def test_ctrl_c_while_nobody_answers_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with running(*PROGRAM, "status", address, "--timeout", "50") as program:
            taken, _ = silent.accept()
            with taken:
                program.send_signal(signal.SIGINT)
                said = program.communicate()
    assert (program.returncode, *said) == (130, "", "Error: interrupted\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("more", [(), ("--json",)], ids=["table", "json"])
def test_an_output_that_cannot_be_written_is_one_line(web: StubWeb, more: tuple[str, ...]) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, *PROGRAM, "status", f"127.0.0.1:{web.port}", *more],
            env=environment(),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    assert (done.returncode, done.stderr) == (1, "Error: No space left on device\n")


# Watching


def test_elsewhere_than_on_a_terminal_watching_tells_each_change(web: StubWeb, starter: Starter) -> None:
    starter.reply = ("200 OK", answer(UNWELL))
    with running(*PROGRAM, "status", f"127.0.0.1:{web.port}", "--watch", "--interval", "0.1") as program:
        before = read_until(program.stdout, "press (flow): retrying, attempt 3 failed in phase notify_db")
        starter.reply = ("500 Oops", b"")
        read_until(program.stdout, "the answer is 500 Oops")
        starter.reply = ("200 OK", answer())
        after = read_until(program.stdout, "/status: ready, healthy")
        program.send_signal(signal.SIGINT)
        rest, errors = program.communicate()
    assert (program.returncode, rest, errors) == (0, "", "")
    assert [len(told.splitlines()) for told in (before, after)] == [3, 2]
    assert after.splitlines()[0].endswith("/status is back")


def test_the_exit_code_of_watching_is_that_of_the_last_answer(web: StubWeb, starter: Starter) -> None:
    starter.reply = ("200 OK", answer(UNWELL))
    command = ("status", f"127.0.0.1:{web.port}", "--watch", "--interval", "0.1", "--json")
    with running(*PROGRAM, *command) as program:
        assert json.loads(read_until(program.stdout, "}"))["ready"] is False
        program.send_signal(signal.SIGINT)
        program.communicate()
    assert program.returncode == 1


def test_on_a_terminal_the_table_changes_in_place(web: StubWeb, starter: Starter) -> None:
    starter.reply = ("200 OK", answer(UNWELL))
    with on_terminal(*PROGRAM, "status", f"127.0.0.1:{web.port}", "--watch", "--interval", "0.1") as screen:
        screen.read_until("not ready, healthy")
        screen.read_until("in 7.0 s")
        starter.reply = ("404 Nothing", b"")
        screen.read_until("this is old: ")
        starter.reply = ("200 OK", answer())
        screen.read_until("status: ready, healthy")
        screen.process.send_signal(signal.SIGINT)
        shown = screen.rest()
    assert screen.process.returncode == 0
    assert "\x1b[2K" in shown
    assert "Traceback" not in shown
