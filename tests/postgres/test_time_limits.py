"""An end to every wait, also where there is no file descriptor to bring it about at once."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from functools import partial
from itertools import count
from math import inf
from typing import Any

import psycopg
import pytest

from pgflow_starter.clock import SystemClock
from pgflow_starter.postgres.connections import time_limits as module
from pgflow_starter.postgres.connections.time_limits import TimeLimit, TimeLimits
from tests.support.threads import left_over, ours
from tests.support.waiting import eventually


class Descriptors:
    """Stands for `os` in that module: `dup` fails as long as there are none."""

    def __init__(self, missing: int) -> None:
        self.missing = missing

    def dup(self, number: int) -> int:
        if self.missing:
            self.missing -= 1
            raise OSError(errno.EMFILE, "Too many open files")
        return os.dup(number)


@pytest.mark.parametrize("closing", [False, True])
def test_breaking_a_connection_is_tried_again_until_there_is_a_file_descriptor(
    empty_database: str, monkeypatch: pytest.MonkeyPatch, closing: bool
) -> None:
    descriptors: Any = Descriptors(2)
    monkeypatch.setattr(module, "os", descriptors)
    monkeypatch.setattr(module, "AGAIN_INTERVAL", 0.1)
    before = ours()
    limits = TimeLimits("pgflow-test-limits", SystemClock())
    with psycopg.connect(empty_database, autocommit=True) as conn:
        closer = threading.Timer(0.1, limits.close)
        if closing:
            closer.start()
        with pytest.raises(psycopg.OperationalError), limits.on(conn, 60 if closing else 0.1):
            conn.execute("select pg_sleep(20)")
        assert descriptors.missing == 0
        if closing:
            closer.join()
    limits.close()
    assert left_over(before, 1) == []


class HangingClock(SystemClock):
    """From its second look on the thread of that name hangs, until it is let go."""

    def __init__(self, thread_name: str) -> None:
        self.looked, self.hangs, self.let_go = threading.Event(), threading.Event(), threading.Event()
        self._thread_name = thread_name

    def monotonic(self) -> float:
        if threading.current_thread().name == self._thread_name:
            if self.looked.is_set():
                self.hangs.set()
                self.let_go.wait()
            self.looked.set()
        return super().monotonic()


def test_closing_waits_for_a_second_at_most(empty_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pgflow_starter.threads.own_thread.CLOSE_TIMEOUT", 0.1)
    clock = HangingClock("pgflow-test-limits")
    limits = TimeLimits("pgflow-test-limits", clock)
    try:
        with psycopg.connect(empty_database) as conn, limits.on(conn, 60):
            assert clock.looked.wait(10)
        closer = threading.Thread(target=limits.close)
        closer.start()
        assert clock.hangs.wait(10)
        closer.join(10)
        assert not closer.is_alive()
    finally:
        clock.let_go.set()
    monkeypatch.undo()
    limits.close()


class FailingClock(SystemClock):
    """Ends the thread of that name when it looks, once it is told to."""

    failing = False

    def monotonic(self) -> float:
        if self.failing and threading.current_thread().name == "pgflow-test-limits":
            raise ValueError
        return super().monotonic()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_limit_is_looked_at_also_where_the_thread_has_died(empty_database: str) -> None:
    before, clock = ours(), FailingClock()
    limits = TimeLimits("pgflow-test-limits", clock)
    with psycopg.connect(empty_database) as conn:
        with limits.on(conn, 60):
            clock.failing = True
            limits.shorten_all(30)
            eventually(lambda: ours() == before)
            clock.failing = False
        with limits.on(conn, 30):
            assert len(ours() - before) == 1
    limits.close()


RLOCK = threading.RLock


class LeavingLock:
    """A lock; `left` is called when a thread has released it."""

    def __init__(self, left: Callable[[], object]) -> None:
        self._lock: Any = RLOCK()
        self._left = left

    def __enter__(self) -> bool:
        return bool(self._lock.__enter__())

    def __exit__(self, *error: Any) -> None:
        self._lock.__exit__(*error)
        self._left()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._lock, name)


def test_what_is_due_as_the_thread_that_cancels_ends_is_cancelled_too(
    empty_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks, found_none, go_on = count(1), threading.Event(), threading.Event()
    cancelled: list[TimeLimit] = []

    def left() -> None:
        if threading.current_thread().name == "pgflow-test-limits-cancel" and next(looks) == 2:
            found_none.set()
            go_on.wait()

    monkeypatch.setattr(module, "CANCEL_SHARE", 0.0)
    with monkeypatch.context() as patched:
        patched.setattr(threading, "RLock", partial(LeavingLock, left))
        limits = TimeLimits("pgflow-test-limits", SystemClock(), cancelled.append)
    try:
        with psycopg.connect(empty_database) as conn, limits.on(conn, 60) as first:
            assert found_none.wait(10)
            with limits.on(conn, 60) as second:
                eventually(lambda: second.cancel_at == inf)
                go_on.set()
                eventually(lambda: cancelled == [first, second])
    finally:
        go_on.set()
        limits.close()
