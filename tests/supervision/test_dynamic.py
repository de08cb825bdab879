"""The dynamic supervisor: many alike children that come and go and stop all at once."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import pytest

from pgflow_starter.supervision import (
    ChildStartError,
    Restart,
    RestartIntensityExceededError,
    SupervisionError,
    SystemClock,
)
from tests.supervision.world import Journal, Stage, raising, waiting


def test_it_starts_empty_and_children_are_added(stage: Stage) -> None:
    top = stage.dynamic()
    for child_id in "abc":
        top.call("start_child", stage.worker(child_id))
    assert top.alive() == ["a", "b", "c"]


def test_it_may_start_with_children(stage: Stage) -> None:
    assert stage.dynamic(stage.worker("a")).alive() == ["a"]


def test_one_death_concerns_one_child(stage: Stage) -> None:
    top = stage.dynamic(*map(stage.worker, "abc"))
    before = {c: top.child(c) for c in "abc"}
    top.kill("b")
    assert [c for c in "abc" if top.child(c) is before[c]] == ["a", "c"]
    assert top.restarts() == {"a": 0, "b": 1, "c": 0}


def test_a_restart_that_fails_is_tried_again(stage: Stage, journal: Journal) -> None:
    top = stage.dynamic(stage.worker("a"))
    stage.plan("a on_start", ValueError("not yet"))
    top.kill("a")
    journal.await_entry("a started", 2)
    assert top.alive() == ["a"]


def test_its_children_share_one_window(stage: Stage) -> None:
    top = stage.dynamic(*map(stage.worker, "abc"), max_restarts=2)
    for child_id in "abc":
        top.kill(child_id)
    assert isinstance(top.await_death(), RestartIntensityExceededError)


@pytest.mark.parametrize("restart", list(Restart))
def test_a_terminated_child_is_forgotten(stage: Stage, restart: Restart) -> None:
    top = stage.dynamic(stage.worker("a", restart))
    top.call("terminate_child", "a")
    assert top.known() == []
    with pytest.raises(SupervisionError, match="has no child 'a'"):
        top.call("restart_child", "a")


def test_a_transient_child_that_ended_normally_is_forgotten(stage: Stage) -> None:
    top = stage.dynamic(stage.worker("a", Restart.TRANSIENT))
    top.after_end_of("a", lambda ref: ref.stop())
    assert top.known() == []


def test_a_child_that_fails_to_start_is_not_kept(stage: Stage) -> None:
    top = stage.dynamic()
    stage.plan("a on_start", ValueError("no luck"))
    with pytest.raises(ChildStartError, match="child 'a' failed to start"):
        top.call("start_child", stage.worker("a"))
    assert top.known() == []


def test_all_children_are_asked_to_stop_before_any_is_waited_for(stage: Stage, journal: Journal) -> None:
    for child_id in "abc":
        stage.plan(f"{child_id} on_stop", waiting("all asked"))
    top = stage.dynamic(*[stage.worker(c, shutdown=math.inf) for c in "abc"])
    stopped = top.ref.stop(block=False)
    journal.await_entry("waits for all asked", 3)
    assert journal.entries("cancelled") == ["a cancelled", "b cancelled", "c cancelled"]
    stage.event("all asked").set()
    assert stopped.get(timeout=10) is True


def test_many_who_hang_are_waited_for_together(stage: Stage, journal: Journal) -> None:
    top = stage.dynamic(*[stage.worker(f"c{n}", shutdown=0.3) for n in range(20)], clock=SystemClock())
    for n in range(20):
        top.child(f"c{n}").tell(waiting("never"))
    journal.await_entry("waits for never", 20)
    began = time.monotonic()
    top.ref.stop()
    assert 0.3 <= time.monotonic() - began < 3.0, "20 times 0.3 s would be 6 s"


def test_giving_up_stops_the_others(stage: Stage, journal: Journal) -> None:
    top = stage.dynamic(*map(stage.worker, "abc"), max_restarts=0)
    top.child("b").tell(raising(ValueError("dead")))
    top.await_death()
    assert sorted(journal.entries("stopped")) == ["a stopped", "c stopped"]


def test_a_thousand_children_come_and_go(stage: Stage) -> None:
    top = stage.dynamic()
    for n in range(1000):
        top.call("start_child", stage.worker(f"c{n}"))
    assert top.call("count_children")["active"] == 1000
    for n in range(1000):
        top.call("terminate_child", f"c{n}")
    assert top.call("count_children")["specs"] == 0


def test_many_are_started_at_once_and_those_that_run_are_named(stage: Stage, journal: Journal) -> None:
    top = stage.dynamic(stage.worker("a"))
    running = top.child("a")
    stage.plan("b on_start", ValueError("not yet"))
    assert top.call("ensure_children", [*map(stage.worker, "abcd")]) == ["a", "c", "d"]
    assert top.alive() == top.known() == ["a", "c", "d"]
    assert top.child("a") is running
    assert journal.count("a started") == 1
    assert top.call("ensure_children", [*map(stage.worker, "ab")]) == ["a", "b"]
    assert top.call("ensure_children", []) == []


@pytest.mark.own_threads
def test_one_without_a_thread_does_not_keep_the_others_from_starting(
    stage: Stage, thread_famine: Callable[[int], None]
) -> None:
    top = stage.dynamic()
    thread_famine(1)
    assert top.call("ensure_children", [*map(stage.worker, "abc")]) == ["b", "c"]


def test_one_whose_restart_failed_is_named_when_it_runs_again(stage: Stage) -> None:
    top = stage.supervise(stage.worker("a"), stage.worker("b"))
    top.call("terminate_child", "a")
    stage.plan("a on_start", ValueError("not yet"))
    assert top.call("ensure_children", [*map(stage.worker, "abc")]) == ["b", "c"]
    assert top.call("ensure_children", [*map(stage.worker, "abc")]) == ["a", "b", "c"]
