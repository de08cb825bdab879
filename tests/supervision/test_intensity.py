"""Restart intensity: how often is still allowed, from when on old restarts no longer count, and the end."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgflow_starter.supervision import RestartIntensityExceededError, Strategy
from pgflow_starter.supervision.specs import RestartWindow
from tests.supervision.world import Journal, Stage


def test_as_many_restarts_as_allowed_are_allowed() -> None:
    window = RestartWindow(3, 5.0)
    assert [window.admit(0.0) for _ in range(4)] == [True, True, True, False]


def test_a_window_of_no_restarts_admits_none() -> None:
    assert not RestartWindow(0, 5.0).admit(0.0)


@pytest.mark.parametrize(("later", "admitted"), [(4.999, False), (5.0, False), (5.001, True)])
def test_a_restart_counts_until_the_window_has_passed_it(later: float, admitted: bool) -> None:
    window = RestartWindow(1, 5.0)
    assert window.admit(100.0)
    assert window.admit(100.0 + later) is admitted


def test_the_window_slides_instead_of_starting_over() -> None:
    window = RestartWindow(2, 5.0)
    assert [window.admit(at) for at in (0.0, 4.0, 5.5, 9.5, 10.4)] == [True, True, True, True, False]


@given(
    st.lists(st.integers(0, 10), max_size=60),
    st.integers(0, 5),
    st.integers(1, 20),
)
def test_never_more_than_allowed_are_admitted_within_any_window(gaps: list[int], most: int, seconds: int) -> None:
    window = RestartWindow(most, seconds)
    tried: list[int] = []
    for gap in gaps:
        tried.append((tried[-1] if tried else 0) + gap)
        within = [at for at in tried if tried[-1] - at <= seconds]
        assert window.admit(tried[-1]) is (len(within) <= most)


def test_a_supervisor_survives_exactly_the_restarts_it_is_allowed(stage: Stage) -> None:
    top = stage.supervise(stage.worker("a"), max_restarts=3)
    for _ in range(3):
        top.kill("a")
    assert top.restarts() == {"a": 3}


def test_one_more_within_the_window_and_it_gives_up(stage: Stage) -> None:
    top = stage.supervise(stage.worker("a"), max_restarts=3, max_seconds=5)
    for number in range(4):
        top.kill("a", ValueError(f"death {number + 1}"))
    end = top.await_death()
    assert isinstance(end, RestartIntensityExceededError)
    assert str(end) == (
        "supervisor 'top' gives up: child 'a' died (ValueError: death 4) and would be restart number 4 within 5 s"
    )
    assert str(end.__cause__) == "death 4"


def test_restarts_that_the_window_has_passed_do_not_count(stage: Stage) -> None:
    top = stage.supervise(stage.worker("a"), max_restarts=1, max_seconds=5)
    for _ in range(10):
        top.kill("a")
        stage.clock.advance(5.1)
    assert top.restarts() == {"a": 10}


def test_a_restart_at_the_very_border_of_the_window_still_counts(stage: Stage) -> None:
    top = stage.supervise(stage.worker("a"), max_restarts=1, max_seconds=5)
    top.kill("a")
    stage.clock.advance(5.0)
    top.kill("a")
    assert isinstance(top.await_death(), RestartIntensityExceededError)


def test_all_children_of_a_supervisor_share_one_window(stage: Stage) -> None:
    top = stage.supervise(*map(stage.worker, "abc"), max_restarts=2)
    top.kill("a")
    top.kill("b")
    top.kill("c")
    assert isinstance(top.await_death(), RestartIntensityExceededError)


def test_the_restart_of_a_whole_group_counts_once(stage: Stage) -> None:
    top = stage.supervise(*map(stage.worker, "abc"), max_restarts=2, strategy=Strategy.ONE_FOR_ALL)
    top.kill("a")
    top.kill("b")
    assert top.alive() == ["a", "b", "c"]


def test_giving_up_stops_the_remaining_children_in_reverse(stage: Stage, journal: Journal) -> None:
    top = stage.supervise(*map(stage.worker, "abcd"), max_restarts=0)
    journal.forget()
    top.kill("b")
    top.await_death()
    assert journal.entries("stopped") == ["d stopped", "c stopped", "a stopped"]


def test_a_call_that_waits_while_it_gives_up_is_answered(stage: Stage) -> None:
    top = stage.supervise(*map(stage.worker, "ab"), max_restarts=0)
    asked = [top.ask("which_children") for _ in range(10)]
    top.kill("a")
    asked += [top.ask("which_children") for _ in range(10)]
    for future in asked[:10]:
        assert len(future.get(timeout=10)) == 2
    for future in asked[10:]:
        with pytest.raises(Exception, match=r"ended before|not found"):
            future.get(timeout=10)
