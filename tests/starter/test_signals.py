"""A signal is seen within a slice of any wait of the main thread, also one that came just before it began."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from typing import Any

import pytest

import pgflow_starter as pgflow
from pgflow_starter.clock import SLICE, one_wait
from pgflow_starter.supervision.inbox import Answer
from pgflow_starter.supervision.tree import Tree
from pgflow_starter.threads.off_main import OffMain
from tests.support.starters import running

LONG = 60.0


class Interrupted(Exception):  # noqa: N818 - what a signal handler raises, like KeyboardInterrupt
    """Raised by the signal's handler."""


@pytest.fixture
def signalled() -> Iterator[Callable[[], None]]:
    """Has a signal come to this process soon, on a thread that is not the main one: nothing wakes that one for it.

    To the main thread that is what one is that came after the interpreter's last look, before a wait in the kernel.
    """

    def raising(*_: object) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGALRM, raising)
    timer = threading.Timer(0.3, lambda: signal.pthread_kill(threading.get_ident(), signal.SIGALRM))
    try:
        yield timer.start
    finally:
        timer.join()
        signal.signal(signal.SIGALRM, before)


def assert_interrupted(wait: Callable[[], object], signalled: Callable[[], None]) -> None:
    began = time.monotonic()
    signalled()
    with pytest.raises(Interrupted):
        wait()
    assert time.monotonic() - began < LONG / 2  # else it was seen when the wait was over


def test_an_actor_s_answer(signalled: Callable[[], None]) -> None:
    assert_interrupted(partial(Answer().get, timeout=LONG), signalled)


def test_an_actor_that_is_to_come_again(signalled: Callable[[], None]) -> None:
    assert_interrupted(partial(Tree().await_other, "starter", None, LONG), signalled)


def test_a_client_s_call(signalled: Callable[[], None]) -> None:
    release = threading.Event()
    with closing(OffMain("pgflow-test")) as elsewhere:
        try:
            assert_interrupted(partial(elsewhere, partial(release.wait, LONG)), signalled)
        finally:
            release.set()


@pytest.mark.parametrize("timeout", [LONG, None])
def test_readiness(timeout: float | None, signalled: Callable[[], None]) -> None:
    release = threading.Event()

    class Slow:
        @staticmethod
        def __pgflow_definition__() -> None:
            release.wait(LONG)

    with running("host=127.0.0.1 port=1", flows=[Slow]) as starter:
        try:
            assert_interrupted(partial(starter.await_ready, timeout), signalled)
        finally:
            release.set()


def test_a_run(database: str, signalled: Callable[[], None]) -> None:
    release = threading.Event()

    @pgflow.job("slow")
    def slow(message: Any, ctx: pgflow.TaskContext) -> None:
        release.wait(LONG)

    with running(database, jobs=[slow]) as starter:
        try:
            starter.await_ready(10)
            assert_interrupted(partial(starter.client.enqueue(slow).wait, LONG), signalled)
        finally:
            release.set()


def test_the_end_of_a_starter(database: str, signalled: Callable[[], None]) -> None:
    entered, release = threading.Event(), threading.Event()

    @pgflow.job("slow")
    def slow(message: Any, ctx: pgflow.TaskContext) -> None:
        entered.set()
        release.wait(LONG)

    with running(database, jobs=[slow]) as starter:
        try:
            starter.await_ready(10)
            starter.client.enqueue(slow)
            assert entered.wait(10)
            assert_interrupted(partial(starter.stop, LONG), signalled)
        finally:
            release.set()


def test_other_threads_are_not_woken_for_nothing() -> None:
    seen: list[float] = []
    thread = threading.Thread(target=lambda: seen.append(one_wait(LONG)))
    thread.start()
    thread.join()
    assert (one_wait(LONG), seen) == (SLICE, [LONG])
