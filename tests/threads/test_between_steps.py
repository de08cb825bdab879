"""What threads and timers do in two steps, observed between them: a thread stands still there."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from queue import SimpleQueue

import pytest

from pgflow_starter.clock import SystemClock
from pgflow_starter.threads.cache import ThreadCache, ThreadsClosedError
from pgflow_starter.threads.timers import TimerThread
from tests.support.pauses import Between

WAIT = 30.0


@pytest.fixture
def timers() -> Iterator[TimerThread]:
    made = TimerThread(SystemClock())
    yield made
    made.close()


def test_a_thread_that_is_added_and_not_started_is_neither_left_behind_nor_abandoned() -> None:
    cache, ran, abandoned = ThreadCache("pgflow-test"), threading.Event(), SimpleQueue[int]()
    with Between(ThreadCache, "self._threads", "thread.start()") as pair:
        pair.beside(lambda: cache.run(ran.set))
        pair.reached()
        pair.beside(lambda: abandoned.put(cache.close(WAIT)))
        assert abandoned.empty()
        pair.go_on()
        assert abandoned.get(timeout=WAIT) == 0
    assert ran.is_set()
    assert cache.names() == []
    with pytest.raises(ThreadsClosedError):
        cache.run(ran.set)


def test_after_its_end_the_timers_thread_makes_no_call_that_it_had_taken(timers: TimerThread) -> None:
    made, late = threading.Event(), SimpleQueue[bool]()

    def close() -> None:
        timers.close()
        late.put(not made.is_set())

    with Between(TimerThread, "timed.call = None", "call_logged(") as pair:
        timers.after(0, made.set)
        pair.reached()
        pair.beside(close)
        pair.go_on()
        assert late.get(timeout=WAIT) is False
