"""The thread cache: what runs at once, on which thread, and what is left behind; and patience where there is none."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from queue import Empty, SimpleQueue

import pytest

from pgflow_starter.testing import ManualTimers
from pgflow_starter.threads import cache as threads_module
from pgflow_starter.threads.cache import ThreadCache, run_patiently
from tests.threads.conftest import WAIT, Call, idle, no_thread


def test_calls_run_at_the_same_time_on_named_daemon_threads(cache: ThreadCache, calls: Callable[[], Call]) -> None:
    made = [calls() for _ in range(5)]
    for call in made:
        cache.run(call)
    assert all(call.begun.wait(WAIT) for call in made)
    assert len({call.thread for call in made}) == 5
    for call in made:
        assert call.thread is not None
        assert call.thread.daemon
        assert call.thread.name.startswith("pgflow-test-")
        call.go_on.set()


def test_an_idle_thread_is_used_again(cache: ThreadCache) -> None:
    used: SimpleQueue[threading.Thread] = SimpleQueue()
    for _ in range(3):
        cache.run(lambda: used.put(threading.current_thread()))
        idle(cache, 1)
    assert len({used.get(timeout=WAIT) for _ in range(3)}) == 1


@pytest.mark.parametrize("error", [RuntimeError("boom"), SystemExit(3), KeyboardInterrupt()], ids=repr)
def test_a_thread_survives_what_its_call_raises(
    cache: ThreadCache, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise error

    cache.run(fail)
    idle(cache, 1)
    assert "a call on pgflow-test" in caplog.text
    ran = threading.Event()
    cache.run(ran.set)
    assert ran.wait(WAIT)


def test_an_idle_thread_ends_after_its_time(cache: ThreadCache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads_module, "IDLE_SECONDS", 0.01)
    used: SimpleQueue[threading.Thread] = SimpleQueue()
    cache.run(lambda: used.put(threading.current_thread()))
    thread = used.get(timeout=WAIT)
    thread.join(WAIT)
    assert not thread.is_alive()
    assert cache.names() == []
    cache.run(lambda: used.put(threading.current_thread()))
    assert used.get(timeout=WAIT) is not thread


def test_no_call_is_lost_to_threads_whose_time_is_up(cache: ThreadCache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads_module, "IDLE_SECONDS", 0)
    made: SimpleQueue[int] = SimpleQueue()
    for number in range(300):
        cache.run(partial(made.put, number))
    assert sorted(made.get(timeout=WAIT) for _ in range(300)) == list(range(300))


def test_a_call_handed_over_just_as_the_time_was_up_is_run(cache: ThreadCache, monkeypatch: pytest.MonkeyPatch) -> None:
    class Late(SimpleQueue[Callable[[], object] | None]):
        """An inbox that is found empty, and then is not: `run` had taken it from the idle ones before."""

        def get(self, block: bool = True, timeout: float | None = None) -> Callable[[], object] | None:
            if timeout is not None:
                raise Empty
            return super().get()

    monkeypatch.setattr("pgflow_starter.threads.cache.SimpleQueue", Late)
    ran = threading.Event()
    cache.run(ran.set)
    assert ran.wait(WAIT)


def test_closing_ends_idle_threads_and_refuses_more(cache: ThreadCache) -> None:
    cache.run(lambda: None)
    idle(cache, 1)
    assert cache.close(WAIT) == 0
    assert cache.close(WAIT) == 0
    assert not [t for t in threading.enumerate() if t.name.startswith("pgflow-test-")]
    with pytest.raises(RuntimeError, match="'pgflow-test' are closed"):
        cache.run(lambda: None)


def test_closing_counts_the_threads_that_hang_and_these_end_with_their_call(
    cache: ThreadCache, calls: Callable[[], Call]
) -> None:
    made = [calls() for _ in range(3)]
    for call in made:
        cache.run(call)
        assert call.begun.wait(WAIT)
    assert cache.close(0.01) == 3
    for call in made:
        call.go_on.set()
        assert call.thread is not None
        call.thread.join(WAIT)
        assert not call.thread.is_alive()


def test_an_idle_thread_that_has_not_left_yet_is_waited_for_and_does_not_hang(
    cache: ThreadCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    told, go_on = threading.Event(), threading.Event()

    class Slow(SimpleQueue[Callable[[], object] | None]):
        """An inbox whose thread takes its time to heed that it is to end."""

        def get(self, block: bool = True, timeout: float | None = None) -> Callable[[], object] | None:
            call = super().get(block, timeout)
            if call is None:
                told.set()
                assert go_on.wait(WAIT)
            return call

    monkeypatch.setattr("pgflow_starter.threads.cache.SimpleQueue", Slow)
    cache.run(lambda: None)
    idle(cache, 1)
    abandoned = SimpleQueue[int]()
    closer = threading.Thread(target=lambda: abandoned.put(cache.close(0.0)))
    closer.start()
    assert told.wait(WAIT)
    go_on.set()
    assert abandoned.get(timeout=WAIT) == 0
    assert cache.names() == []


def test_closing_waits_for_a_thread_that_is_just_being_started(
    cache: ThreadCache, calls: Callable[[], Call], monkeypatch: pytest.MonkeyPatch
) -> None:
    starting, go_on, start = threading.Event(), threading.Event(), threading.Thread.start

    def slowly(thread: threading.Thread) -> None:
        if thread.name.startswith("pgflow-test-"):
            starting.set()
            assert go_on.wait(WAIT)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", slowly)
    call, abandoned = calls(), SimpleQueue[int]()
    call.go_on.set()
    runner = threading.Thread(target=cache.run, args=(call,))
    runner.start()
    assert starting.wait(WAIT)
    closer = threading.Thread(target=lambda: abandoned.put(cache.close(WAIT)))
    closer.start()
    closer.join(0.05)
    go_on.set()
    assert abandoned.get(timeout=WAIT) == 0
    assert call.ended.is_set()


def test_a_signals_handler_may_run_a_call_while_its_thread_starts_one(
    cache: ThreadCache, calls: Callable[[], Call], monkeypatch: pytest.MonkeyPatch
) -> None:
    outer, inner, start = calls(), calls(), threading.Thread.start

    def interrupted(thread: threading.Thread) -> None:
        monkeypatch.undo()
        cache.run(inner)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    cache.run(outer)
    assert inner.begun.wait(WAIT)
    assert outer.begun.wait(WAIT)


def test_closing_from_one_of_its_own_threads_does_not_wait_for_itself(cache: ThreadCache) -> None:
    closed = threading.Event()

    def close() -> None:
        cache.close(WAIT)
        closed.set()

    cache.run(close)
    assert closed.wait(WAIT)


def test_a_call_without_a_thread_is_refused(cache: ThreadCache, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_thread(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        with pytest.raises(RuntimeError, match="can't start"):
            cache.run(lambda: None)
    assert cache.close(WAIT) == 0


# Patiently


def test_what_findsno_thread_is_tried_again_each_second_until_it_does(
    cache: ThreadCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    timers, ran = ManualTimers(), threading.Semaphore(0)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", no_thread)
        run_patiently(cache, timers, ran.release)
        timers.advance(3.0)
        assert (timers.pending, timers.next_in) == (1, 1.0)
    timers.advance(1.0)
    assert ran.acquire(timeout=WAIT)
    assert timers.pending == 0
    run_patiently(cache, timers, ran.release)
    assert ran.acquire(timeout=WAIT)
    assert timers.pending == 0


def test_it_is_tried_no_more_when_the_threads_are_closed(cache: ThreadCache, monkeypatch: pytest.MonkeyPatch) -> None:
    timers = ManualTimers()
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", no_thread)
        run_patiently(cache, timers, lambda: pytest.fail("it was closed"))
    cache.close(WAIT)
    timers.advance(1.0)
    assert timers.pending == 0
