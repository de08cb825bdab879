"""The thread cache and the lane: what runs at once, what waits, and what hangs without holding up the rest."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from queue import Empty, SimpleQueue

import pytest

from pgflow_starter.testing import ManualTimers
from pgflow_starter.threads import cache as threads_module
from pgflow_starter.threads.cache import ThreadCache, run_patiently
from pgflow_starter.threads.lane import Lane, Turn
from tests.support.waiting import eventually

WAIT = 10.0


class Call:
    """A call that says when it has begun and waits to be let go."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.go_on = threading.Event()
        self.ended = threading.Event()
        self.thread: threading.Thread | None = None

    def __call__(self) -> None:
        self.thread = threading.current_thread()
        self.begun.set()
        self.go_on.wait()
        self.ended.set()


@pytest.fixture
def cache() -> Iterator[ThreadCache]:
    made = ThreadCache("pgflow-test")
    yield made
    made.close(WAIT)


@pytest.fixture
def calls(cache: ThreadCache) -> Iterator[Callable[[], Call]]:
    """Makes calls, and lets all go before the cache is closed."""
    made: list[Call] = []

    def make() -> Call:
        made.append(Call())
        return made[-1]

    yield make
    for call in made:
        call.go_on.set()


def idle(cache: ThreadCache, count: int) -> None:
    eventually(lambda: len(cache._idle) == count)


# The cache


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
    assert not cache._idle
    cache.run(lambda: used.put(threading.current_thread()))
    assert used.get(timeout=WAIT) is not thread


def test_no_call_is_lost_to_threads_whose_time_is_up(cache: ThreadCache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads_module, "IDLE_SECONDS", 0)
    made: SimpleQueue[int] = SimpleQueue()
    for number in range(300):
        cache.run(partial(made.put, number))
    assert sorted(made.get(timeout=WAIT) for _ in range(300)) == list(range(300))


def test_a_call_handed_over_just_as_the_time_was_up_is_run(cache: ThreadCache) -> None:
    class Late(SimpleQueue[Callable[[], object] | None]):
        """An inbox that is found empty, and then is not: `run` had taken it from the idle ones before."""

        def get(self, block: bool = True, timeout: float | None = None) -> Callable[[], object]:
            if timeout is not None:
                raise Empty
            return call

    def call() -> None: ...

    assert cache._next(Late()) is call


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
    told, go_on, genuine = threading.Event(), threading.Event(), cache._next

    def slowly(inbox: SimpleQueue[Callable[[], object] | None]) -> Callable[[], object] | None:
        call = genuine(inbox)
        if call is None:
            told.set()
            assert go_on.wait(WAIT)
        return call

    monkeypatch.setattr(cache, "_next", slowly)
    cache.run(lambda: None)
    idle(cache, 1)
    abandoned = SimpleQueue[int]()
    closer = threading.Thread(target=lambda: abandoned.put(cache.close(0.0)))
    closer.start()
    assert told.wait(WAIT)
    go_on.set()
    assert abandoned.get(timeout=WAIT) == 0
    assert not cache._threads


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


# The lane


def test_a_lane_runs_as_many_as_it_is_wide_and_the_rest_in_order(cache: ThreadCache, calls: Callable[[], Call]) -> None:
    lane, made = Lane(cache, 2), [calls() for _ in range(5)]
    for call in made:
        lane.run(call)
    for position in range(5):
        assert made[position].begun.wait(WAIT)
        begun = [call.begun.is_set() for call in made]
        assert not any(begun[position + 2 :])
        made[position].go_on.set()


def test_what_goes_on_goes_first_and_what_may_be_made_later_keeps_one_place(
    cache: ThreadCache, calls: Callable[[], Call]
) -> None:
    lane = Lane(cache, 2)
    first, second, begins, goes_on, later, last = [calls() for _ in range(6)]
    for call in (first, second):
        lane.run(call, Turn.BEGINS)
        assert call.begun.wait(WAIT)
    lane.run(later, Turn.LATER)
    lane.run(last, Turn.LATER)
    lane.run(begins, Turn.BEGINS)
    lane.run(goes_on, Turn.GOES_ON)
    first.go_on.set()
    assert later.begun.wait(WAIT)
    second.go_on.set()
    assert goes_on.begun.wait(WAIT)
    assert not begins.begun.is_set()
    goes_on.go_on.set()
    assert begins.begun.wait(WAIT)
    later.go_on.set()
    assert last.begun.wait(WAIT)


def test_a_call_that_raises_frees_its_place(cache: ThreadCache) -> None:
    lane, ran = Lane(cache, 1), threading.Event()
    lane.run(lambda: 1 / 0)
    lane.run(ran.set)
    assert ran.wait(WAIT)


def test_a_call_that_hangs_gives_its_place_away_and_takes_none_back(
    cache: ThreadCache, calls: Callable[[], Call]
) -> None:
    lane, hung, second, third = Lane(cache, 1), calls(), calls(), calls()
    place = lane.run(hung)
    for call in (second, third):
        lane.run(call)
    assert hung.begun.wait(WAIT)
    lane.leave(place)
    lane.leave(place)
    assert second.begun.wait(WAIT)
    hung.go_on.set()
    idle(cache, 1)
    assert not third.begun.is_set()
    second.go_on.set()
    assert third.begun.wait(WAIT)


def test_one_that_leaves_before_its_turn_is_not_run(cache: ThreadCache, calls: Callable[[], Call]) -> None:
    lane, first, second, third = Lane(cache, 1), calls(), calls(), calls()
    lane.run(first)
    place = lane.run(second)
    lane.run(third)
    lane.leave(place)
    first.go_on.set()
    assert third.begun.wait(WAIT)
    assert not second.begun.is_set()


def test_leaving_after_the_end_changes_nothing(cache: ThreadCache, calls: Callable[[], Call]) -> None:
    lane, first, second = Lane(cache, 1), calls(), calls()
    place = lane.run(lambda: None)
    idle(cache, 1)
    lane.leave(place)
    lane.run(first)
    lane.run(second)
    assert first.begun.wait(WAIT)
    assert not second.begun.is_set()


def test_a_lane_without_threads_refuses_the_call_and_runs_the_next(
    cache: ThreadCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    lane, ran = Lane(cache, 1), threading.Event()
    with monkeypatch.context() as patched:
        patched.setattr(cache, "run", _no_thread)
        with pytest.raises(RuntimeError, match="no thread"):
            lane.run(lambda: pytest.fail("it was refused"))
    lane.run(ran.set)
    assert ran.wait(WAIT)


def test_who_comes_to_a_lane_while_another_is_refused_a_thread_is_not_forgotten(
    cache: ThreadCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    lane, refusing, go_on, ran = Lane(cache, 1), threading.Event(), threading.Event(), threading.Event()
    run = cache.run

    def refuse_the_first(call: Callable[[], object]) -> None:
        if refusing.is_set():
            return run(call)
        refusing.set()
        assert go_on.wait(WAIT)
        raise RuntimeError("no thread")

    def first() -> None:
        with pytest.raises(RuntimeError, match="no thread"):
            lane.run(lambda: pytest.fail("it was refused"))

    monkeypatch.setattr(cache, "run", refuse_the_first)
    callers = [threading.Thread(target=call) for call in (first, lambda: lane.run(ran.set))]
    callers[0].start()
    assert refusing.wait(WAIT)
    callers[1].start()
    go_on.set()
    for caller in callers:
        caller.join(WAIT)
    assert ran.wait(WAIT)


def test_a_place_given_away_without_a_thread_for_the_next_can_be_given_away_again(
    cache: ThreadCache, calls: Callable[[], Call], monkeypatch: pytest.MonkeyPatch
) -> None:
    lane, hung, second = Lane(cache, 1), calls(), calls()
    place = lane.run(hung)
    lane.run(second)
    assert hung.begun.wait(WAIT)
    with monkeypatch.context() as patched:
        patched.setattr(cache, "run", _no_thread)
        with pytest.raises(RuntimeError, match="no thread"):
            lane.leave(place)
    assert lane.leave(place)
    assert second.begun.wait(WAIT)
    assert lane.leave(place)


# Patiently


def test_what_finds_no_thread_is_tried_again_each_second_until_it_does(
    cache: ThreadCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    timers, ran = ManualTimers(), threading.Semaphore(0)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", _no_thread)
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
        patched.setattr(threading.Thread, "start", _no_thread)
        run_patiently(cache, timers, lambda: pytest.fail("it was closed"))
    cache.close(WAIT)
    timers.advance(1.0)
    assert timers.pending == 0


def _no_thread(_: object) -> None:
    raise RuntimeError("no thread")


def test_nothing_begins_in_a_lane_that_is_closed_and_who_waits_may_leave(
    cache: ThreadCache, calls: Callable[[], Call]
) -> None:
    lane, running, waiting = Lane(cache, 1), calls(), calls()
    place = lane.run(running)
    assert running.begun.wait(WAIT)
    waits = lane.run(waiting)
    lane.close()
    assert lane.leave(place)
    running.go_on.set()
    idle(cache, 1)
    assert not waiting.begun.is_set()
    assert not lane.leave(waits)
    with pytest.raises(RuntimeError, match="the lane is closed"):
        lane.run(calls())
