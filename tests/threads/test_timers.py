"""Timed calls: one contract for the timer thread and the manual timers, and what only one of them does."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from queue import SimpleQueue
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgflow_starter.clock import Clock, SystemClock, Timer, Timers
from pgflow_starter.testing import START, ManualClock, ManualTimers
from pgflow_starter.threads.timers import TimerThread

Advance = Callable[[float], None]


@pytest.fixture(params=["thread", "manual"])
def timers(request: pytest.FixtureRequest) -> Iterator[tuple[Timers, Advance]]:
    """Timers, and how their time passes."""
    if request.param == "manual":
        manual = ManualTimers()
        yield manual, manual.advance
        return
    thread = TimerThread(SystemClock())
    yield thread, lambda _: None
    thread.close()


@pytest.fixture
def thread() -> Iterator[TimerThread]:
    made = TimerThread(SystemClock())
    yield made
    made.close()


def taken(queue: SimpleQueue[Any], count: int) -> list[Any]:
    return [queue.get(timeout=10) for _ in range(count)]


# The contract


def test_calls_are_made_in_the_order_they_are_due(timers: tuple[Timers, Advance]) -> None:
    made, advance = timers
    calls: SimpleQueue[str] = SimpleQueue()
    clock = made.clock if isinstance(made, ManualTimers) else SystemClock()
    began = clock.monotonic()
    for at, name in ((0.3, "c"), (0.1, "a"), (0.2, "b")):
        made.after(began + at - clock.monotonic(), partial(calls.put, name))  # however long the loop takes
    advance(0.3)
    assert taken(calls, 3) == ["a", "b", "c"]


def test_of_calls_due_at_one_time_the_first_armed_is_made_first(timers: tuple[Timers, Advance]) -> None:
    made, advance = timers
    calls: SimpleQueue[int] = SimpleQueue()
    for number in range(50):
        made.after(-number, partial(calls.put, number))
    advance(0)
    numbers = taken(calls, 50)
    assert sorted(numbers) == list(range(50))
    assert isinstance(made, TimerThread) or numbers == list(range(50))


def test_a_cancelled_call_is_not_made(timers: tuple[Timers, Advance]) -> None:
    made, advance = timers
    calls: SimpleQueue[str] = SimpleQueue()
    armed: SimpleQueue[Timer] = SimpleQueue()
    made.after(0, lambda: armed.get(timeout=10).cancel())  # by the call before it, however late that is
    cancelled = made.after(0, lambda: calls.put("never"))
    armed.put(cancelled)
    made.after(0.01, lambda: calls.put("made"))
    advance(0.01)
    assert taken(calls, 1) == ["made"]
    assert calls.empty()
    cancelled.cancel()


def test_a_call_may_arm_the_next(timers: tuple[Timers, Advance]) -> None:
    made, advance = timers
    calls: SimpleQueue[str] = SimpleQueue()
    made.after(0.01, lambda: made.after(0.01, lambda: calls.put("second")))
    advance(0.02)
    assert taken(calls, 1) == ["second"]


# The thread


def test_the_thread_survives_whatever_a_call_raises(thread: TimerThread, caplog: pytest.LogCaptureFixture) -> None:
    def fail(error: BaseException) -> None:
        raise error

    calls: SimpleQueue[str] = SimpleQueue()
    for error in (RuntimeError("boom"), SystemExit(3), KeyboardInterrupt()):
        thread.after(0, partial(fail, error))
    thread.after(0.001, lambda: calls.put("made"))
    assert taken(calls, 1) == ["made"]
    assert caplog.text.count("a timed call raised") == 3


def test_a_call_that_is_due_sooner_does_not_wait_for_a_later_one(thread: TimerThread) -> None:
    calls: SimpleQueue[str] = SimpleQueue()
    thread.after(3600, lambda: calls.put("late"))
    thread.after(0, lambda: calls.put("now"))
    assert taken(calls, 1) == ["now"]


@pytest.mark.parametrize("delay", [1e12, float("inf")])
def test_a_call_that_is_due_never_harms_no_other(thread: TimerThread, delay: float) -> None:
    calls: SimpleQueue[str] = SimpleQueue()
    thread.after(delay, lambda: calls.put("never"))
    thread.after(0.01, lambda: calls.put("made"))
    assert taken(calls, 1) == ["made"]
    thread.after(0.01, lambda: calls.put("again"))
    assert taken(calls, 1) == ["again"]


def test_closing_drops_what_waits_and_ends_the_thread(thread: TimerThread) -> None:
    calls: SimpleQueue[str] = SimpleQueue()
    thread.after(60, lambda: calls.put("never"))
    thread.close()
    thread.close()
    thread.after(0, lambda: calls.put("never"))
    assert not [t for t in threading.enumerate() if t.name == "pgflow-timers"]
    assert calls.empty()


def test_closing_before_the_first_call_is_nothing() -> None:
    TimerThread(SystemClock()).close()


def test_a_call_may_close_the_timers(thread: TimerThread) -> None:
    closed = threading.Event()

    def call() -> None:
        thread.close()
        closed.set()

    thread.after(0, call)
    assert closed.wait(10)


def test_closing_waits_for_the_call_that_is_being_made(thread: TimerThread) -> None:
    begun, go_on, ended = threading.Event(), threading.Event(), threading.Event()

    def call() -> None:
        begun.set()
        go_on.wait(10)
        ended.set()

    thread.after(0, call)
    assert begun.wait(10)
    closing = threading.Thread(target=thread.close)
    closing.start()
    assert not ended.is_set()
    go_on.set()
    closing.join(10)
    assert not closing.is_alive()
    assert ended.is_set()


def test_a_call_that_hangs_is_left_to_its_thread(
    thread: TimerThread, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("pgflow_starter.threads.own_thread.CLOSE_TIMEOUT", 0.01)
    begun, go_on = threading.Event(), threading.Event()

    def call() -> None:
        begun.set()
        assert go_on.wait(60)

    thread.after(0, call)
    assert begun.wait(10)
    try:
        thread.close()
        assert "a timed call hangs" in caplog.text
    finally:
        go_on.set()


def test_calls_that_were_cancelled_long_before_they_are_due_are_not_kept(thread: TimerThread) -> None:
    kept = thread.after(3600, lambda: None)
    for _ in range(20_000):
        thread.after(3600, lambda: None).cancel()
    assert thread.entries < 5_000
    assert kept.call is not None


# By hand


def test_manual_time_stands_still_until_it_is_advanced() -> None:
    clock: Clock = (manual := ManualClock())
    assert (clock.monotonic(), clock.now()) == (0.0, START)
    manual.advance(90)
    assert clock.monotonic() == 90.0
    assert (clock.now() - START).total_seconds() == 90.0


@pytest.mark.parametrize("seconds", [-0.1, float("nan"), float("inf")])
def test_manual_time_never_goes_back(seconds: float) -> None:
    timers = ManualTimers()
    for advance in (timers.clock.advance, timers.advance):
        with pytest.raises(ValueError, match="at least 0"):
            advance(seconds)


def test_a_manual_call_finds_the_clock_at_its_own_time() -> None:
    timers = ManualTimers()
    seen: list[float] = []
    for delay in (1.5, 2.5, 99):
        timers.after(delay, lambda: seen.append(timers.clock.monotonic()))
    timers.advance(4)
    assert seen == [1.5, 2.5]
    assert timers.clock.monotonic() == 4
    assert (timers.pending, timers.next_in) == (1, 95.0)


def test_a_manual_call_is_due_when_the_clock_alone_was_advanced() -> None:
    timers = ManualTimers(ManualClock())
    made: list[str] = []
    timers.after(5, lambda: made.append("made"))
    timers.clock.advance(6)
    assert (made, timers.next_in) == ([], 0.0)
    timers.advance()
    assert (made, timers.clock.monotonic()) == (["made"], 6.0)


def test_what_a_manual_call_raises_is_the_callers_and_the_rest_stays() -> None:
    timers = ManualTimers()
    timers.after(1, lambda: 1 / 0)
    timers.after(2, lambda: None)
    with pytest.raises(ZeroDivisionError):
        timers.advance(5)
    assert (timers.clock.monotonic(), timers.pending) == (1.0, 1)


def test_a_cancelled_manual_call_is_not_pending() -> None:
    timers = ManualTimers()
    timers.after(1, lambda: None).cancel()
    assert (timers.pending, timers.next_in) == (0, None)


@given(st.lists(st.integers(0, 50)), st.lists(st.integers(0, 20)))
def test_however_time_is_cut_each_manual_call_is_made_once_and_in_time(delays: list[int], steps: list[int]) -> None:
    timers = ManualTimers()
    made: list[int] = []
    for delay in delays:
        timers.after(delay, partial(made.append, delay))
    for step in steps:
        timers.advance(step)
        assert made == sorted(d for d in delays if d <= timers.clock.monotonic())
    assert timers.pending == len(delays) - len(made)
