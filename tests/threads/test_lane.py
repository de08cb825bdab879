"""The lane: how many calls run at a time, whose turn it is, and what hangs without holding up the rest."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from pgflow_starter.threads.cache import ThreadCache
from pgflow_starter.threads.lane import Lane, Turn
from tests.threads.conftest import WAIT, Call, idle, no_thread


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
        patched.setattr(cache, "run", no_thread)
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
        patched.setattr(cache, "run", no_thread)
        with pytest.raises(RuntimeError, match="no thread"):
            lane.leave(place)
    assert lane.leave(place)
    assert second.begun.wait(WAIT)
    assert lane.leave(place)


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
