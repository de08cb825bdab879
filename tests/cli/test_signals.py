"""SIGTERM and SIGINT as the commands have them: the handler says so, and the wait ends."""

from __future__ import annotations

import os
import random
import signal
import threading

import pytest

from pgflow_starter.cli.signals import Interrupted, Signals, handled
from tests.interrupting.attempt import attempt
from tests.support.programs import finished, read_until, running

PROGRAM = ("-m", "pgflow_starter")
LONG = 60.0
UNASKED = 10.0
"""Seconds, a third of what a starter waits for its tasks where nobody presses Ctrl-C again."""

IGNORING = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""

TWICE = """
import threading
from pgflow_starter.cli.signals import handled

with handled() as signals:
    print("ready", flush=True)
    signals.wait(60)
    print("one came", flush=True)
    while True:  # what does not look whether one did
        threading.Event().wait(0.1)
"""


def test_what_is_done_aside_comes_back_or_raises() -> None:
    signals = Signals()
    assert signals.aside(lambda: threading.current_thread().name, name="pgflow-seven") == "pgflow-seven"
    with pytest.raises(ValueError, match="invalid literal"):
        signals.aside(lambda: int("seven"))


def test_what_takes_too_long_is_left_to_itself() -> None:
    release = threading.Event()
    try:
        with pytest.raises(TimeoutError):
            Signals().aside(release.wait, 0.01)
    finally:
        release.set()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_wait_and_raises_nothing_where_it_comes(number: signal.Signals) -> None:
    release = threading.Event()
    try:
        with handled() as signals:
            assert not signals.wait(0)
            os.kill(os.getpid(), number)
            assert signals.wait(LONG)
            with pytest.raises(Interrupted) as raised:
                signals.aside(lambda: release.wait(LONG))
    finally:
        release.set()
    assert raised.value.exit_code == 128 + number


def test_the_handlers_are_those_from_before_when_it_is_over() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with handled():
        assert signal.getsignal(signal.SIGINT) != before[0]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_a_second_signal_ends_on_the_spot_what_does_not_end_by_itself() -> None:
    with running("-c", TWICE) as program:
        read_until(program.stdout, "ready")
        program.send_signal(signal.SIGINT)
        read_until(program.stdout, "one came")
        program.send_signal(signal.SIGINT)
        _, errors = program.communicate()
    assert (program.returncode, errors) == (-signal.SIGINT, "")


@pytest.mark.parametrize("more", [(), ("--http", ":0")], ids=["alone", "with a page"])
@pytest.mark.parametrize("seed", [1, 2])
def test_the_second_ctrl_c_at_any_moment_ends_a_starter_whose_task_does_not(
    database: str, seed: int, more: tuple[str, ...]
) -> None:
    tried = attempt(database, random.Random(seed), *more)
    assert tried.code == 130, tried.log
    assert tried.seconds < UNASKED, tried.log
    assert "Traceback" not in tried.log


def test_sigint_counts_though_the_shell_had_it_ignored() -> None:
    # A database that is away: what it is told of shows that the handlers are there.
    command = (*PROGRAM, "run", "tests.interrupting.shop:sleep", "--dsn", "host=127.0.0.1 port=1")
    with running("-c", IGNORING, *command) as program:
        read_until(program.stderr, "the database is away")
        program.send_signal(signal.SIGINT)
        _, log = program.communicate()
    assert program.returncode == 0
    assert log.splitlines()[-1].endswith("stopped")


def test_ctrl_c_ends_the_demo_in_order() -> None:
    with running(*PROGRAM, "demo") as program:
        read_until(program.stdout, "Registering four modules")
        program.send_signal(signal.SIGINT)
        _, errors = program.communicate()
    assert (program.returncode, errors) == (130, "Error: interrupted\n")


def test_sigterm_has_the_exit_code_of_shells() -> None:
    done = finished("-c", "from pgflow_starter.cli.signals import Interrupted; print(Interrupted('x', 15).exit_code)")
    assert done.stdout == "143\n"
