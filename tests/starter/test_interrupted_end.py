"""An exception, or a signal, at any moment of a starter's end and of `run`: the end can be had again, and is whole."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest

import pgflow_starter as pgflow
from pgflow_starter.cli.kinds import named
from pgflow_starter.cli.signals import Signals
from tests.support.commands import call
from tests.support.interrupting import Interrupted, Interrupting
from tests.support.starters import QUICK, echo_job
from tests.support.threads import left_over, ours

NOWHERE = "host=127.0.0.1 port=1"


@pytest.mark.parametrize("timeout", [None, 0])
def test_a_stop_that_is_interrupted_at_any_step_can_be_called_again_and_leaves_nothing(timeout: float | None) -> None:
    before = ours()
    for step in count(1):
        starter = pgflow.start(NOWHERE, jobs=[echo_job()], **QUICK)
        try:
            with Interrupting(step, deeper=True):
                starter.stop(timeout)
        except Interrupted:
            starter.stop(timeout)
        else:
            break
        finally:
            assert left_over(before, 10) == []
        with pytest.raises(pgflow.StarterStopped):
            starter.status()
    assert step > 20


def test_one_that_is_ready_says_in_the_database_that_its_worker_stopped_wherever_its_stop_was_interrupted(
    database: str,
) -> None:
    with psycopg.connect(database, autocommit=True) as admin:
        for step in count(1, 9):
            starter = pgflow.start(database, jobs=[echo_job()], **QUICK)
            starter.await_ready(30)
            try:
                with Interrupting(step, deeper=True):
                    starter.stop()
            except Interrupted:
                starter.stop()
            else:
                break
            stopped = admin.execute("select bool_and(deprecated_at is not null) from pgflow.workers").fetchone()
            assert stopped == (True,), step
    assert step > 20


def leave(*_: object) -> None:
    sys.exit(0)


@pytest.fixture
def outside() -> Iterator[None]:
    """A signal before and after `run` handles them ends the process; here, what is called."""
    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    assert [signal.getsignal(number) for number in before] == [leave, leave]
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a job in it."""
    (tmp_path / "interrupted_shop.py").write_text(
        "import pgflow_starter as pgflow\n@pgflow.job('interrupted')\ndef job(message, ctx):\n    return message\n"
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


RUN = ("run", "interrupted_shop:job", "--dsn", NOWHERE)


@pytest.mark.usefixtures("folder", "outside")
def test_a_signal_at_any_step_of_run_ends_it_with_0_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    before, waits, read, wait = ours(), list[int](), named, Signals.wait
    stepping = Interrupting(-1, what=lambda: signal.raise_signal(signal.SIGTERM))

    def first(*given: Any) -> Any:
        stepping.left = step
        return read(*given)

    def waited(signals: Signals, timeout: float) -> bool:
        waits.append(1)
        return wait(signals, timeout)

    monkeypatch.setattr("pgflow_starter.cli.run.named", first)
    monkeypatch.setattr(Signals, "wait", waited)
    for step in count(1, 37):
        waits.clear()
        with stepping:
            ended = call(*RUN)
        assert ended.exit_code == 0, (step, ended.output, ended.exception)
        assert left_over(before, 10) == []
        assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == [leave, leave]
        if len(waits) > 2:  # it has looked and found nothing: from here on every step is as the ones before
            break
    assert step > 37


@pytest.mark.usefixtures("folder", "outside")
def test_a_second_ctrl_c_at_any_step_of_the_end_of_run_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    before, wait = ours(), Signals.wait
    monkeypatch.setattr(os, "_exit", sys.exit)
    for later in count(1, 3):
        sent: list[int] = []

        def interrupt() -> None:
            if signal.getsignal(signal.SIGINT) is not leave:  # else `run` has ended
                sent.append(1)  # noqa: B023 - used at once
                signal.raise_signal(signal.SIGINT)

        stepping = Interrupting(-1, what=interrupt)

        def told(signals: Signals, timeout: float) -> bool:
            signal.raise_signal(signal.SIGINT)
            stepping.left = later  # noqa: B023 - used at once
            return wait(signals, timeout)

        monkeypatch.setattr(Signals, "wait", told)
        with stepping:
            ended = call(*RUN)
        assert left_over(before, 10) == []
        assert ended.exit_code in ((0, 130) if sent else (0,)), (later, ended.output, ended.exception)
        if not sent:
            break
    assert later > 3
