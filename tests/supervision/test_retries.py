"""A restart that fails is tried again by a message to itself: each try counts, and calls get in between."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pykka
import pytest

from pgflow_starter.supervision import (
    ChildStartError,
    RestartIntensityExceededError,
    Strategy,
    SupervisionError,
)
from tests.supervision.world import Journal, Stage, Supervised, failing_at, raising, waiting
from tests.support.waiting import eventually

Famine = Callable[[int], None]

AGAIN = ValueError("not yet")


def between_tries(top: Supervised, stage: Stage, *calls: tuple[Any, ...]) -> list[pykka.Future[Any]]:
    """Kill a, let its first restart fail, and have the calls wait when it does."""
    stage.plan("a on_start", failing_at("a may fail"))
    top.child("a").tell(raising(ValueError("dead")))
    stage.journal.await_entry("waits for a may fail")
    futures = [top.ask(*call) for call in calls]
    stage.event("a may fail").set()
    return futures


@pytest.mark.parametrize("where", ["constructor", "on_start"])
def test_a_failing_restart_is_tried_again_until_it_succeeds(stage: Stage, journal: Journal, where: str) -> None:
    top = stage.supervise(stage.worker("a"), max_restarts=4)
    stage.plan(f"a {where}", AGAIN, AGAIN, SystemExit(3))
    top.kill("a")
    journal.await_entry("a started", 2)
    assert top.alive() == ["a"]
    assert top.restarts() == {"a": 1}, "tries that failed are no restarts of the child"


def test_each_try_counts(stage: Stage) -> None:
    top = stage.supervise(stage.worker("a"), max_restarts=3)
    stage.plan("a on_start", *[ValueError(f"try {n}") for n in (1, 2, 3)])
    top.child("a").tell(raising(ValueError("dead")))
    end = top.await_death()
    assert isinstance(end, RestartIntensityExceededError)
    assert "(ValueError: try 3)" in str(end)
    assert str(end.__cause__) == "try 3"


def test_a_try_that_succeeds_counts_as_well(stage: Stage, journal: Journal) -> None:
    top = stage.supervise(stage.worker("a"), max_restarts=2)
    stage.plan("a on_start", AGAIN)
    top.kill("a")
    journal.await_entry("a started", 2)
    top.kill("a")
    assert isinstance(top.await_death(), RestartIntensityExceededError)


def test_calls_that_wait_are_served_before_the_next_try(stage: Stage, journal: Journal) -> None:
    top = stage.supervise(stage.worker("a"), stage.worker("b"))
    seen, counted = between_tries(top, stage, ("which_children",), ("count_children",))
    assert [info.alive for info in seen.get(timeout=10)] == [False, True]
    assert counted.get(timeout=10)["active"] == 1
    journal.await_entry("a started", 2)
    assert top.alive() == ["a", "b"]


@pytest.mark.parametrize("method", ["restart_child", "delete_child"])
def test_a_child_between_two_tries_can_be_neither_restarted_nor_deleted(stage: Stage, method: str) -> None:
    top = stage.supervise(stage.worker("a"))
    (refused,) = between_tries(top, stage, (method, "a"))
    with pytest.raises(SupervisionError, match="'a' is being restarted"):
        refused.get(timeout=10)


def test_a_child_between_two_tries_is_present(stage: Stage) -> None:
    top = stage.supervise(stage.worker("a"))
    (refused,) = between_tries(top, stage, ("start_child", stage.worker("a")))
    with pytest.raises(SupervisionError, match="'a' is already present"):
        refused.get(timeout=10)


def test_terminating_a_child_between_two_tries_ends_the_trying(stage: Stage, journal: Journal) -> None:
    top = stage.supervise(stage.worker("a"), stage.worker("b"))
    (terminated,) = between_tries(top, stage, ("terminate_child", "a"))
    terminated.get(timeout=10)
    top.settle()
    assert (top.known(), top.alive()) == (["a", "b"], ["b"])
    assert journal.count("a started") == 1


def test_a_terminated_child_that_was_restarted_by_hand_is_not_tried_again(stage: Stage, journal: Journal) -> None:
    top = stage.supervise(stage.worker("a"))
    _, restarted = between_tries(top, stage, ("terminate_child", "a"), ("restart_child", "a"))
    ref = restarted.get(timeout=10)
    top.settle()
    assert top.child("a") is ref
    assert journal.count("a started") == 2


def test_a_deleted_child_is_not_tried_again(stage: Stage, journal: Journal) -> None:
    top = stage.supervise(stage.worker("a"))
    between_tries(top, stage, ("terminate_child", "a"), ("delete_child", "a"))
    journal.await_entry("waits for a may fail")
    top.settle()
    assert top.known() == []
    assert journal.count("a started") == 1


def test_stopping_between_two_tries_ends_the_trying(stage: Stage, journal: Journal) -> None:
    top = stage.supervise(stage.worker("a"), stage.worker("b"))
    stage.plan("a on_start", failing_at("a may fail"))
    top.child("a").tell(raising(ValueError("dead")))
    journal.await_entry("waits for a may fail")
    stopped = top.ref.stop(block=False)
    stage.event("a may fail").set()
    assert stopped.get(timeout=10) is True
    assert top.link.reason is None
    assert journal.count("a started") == 1


@pytest.mark.parametrize(
    ("strategy", "fails", "started"),
    [
        (Strategy.REST_FOR_ONE, "b", ["b", "c"]),
        (Strategy.REST_FOR_ONE, "c", ["b", "c"]),
        (Strategy.ONE_FOR_ALL, "a", ["a", "b", "c"]),
        (Strategy.ONE_FOR_ALL, "c", ["a", "b", "a", "b", "c"]),
    ],
)
def test_a_group_is_tried_again_from_the_member_that_failed(
    stage: Stage, journal: Journal, strategy: Strategy, fails: str, started: list[str]
) -> None:
    top = stage.supervise(*map(stage.worker, "abc"), strategy=strategy)
    stage.plan(f"{fails} on_start", AGAIN)
    journal.forget()
    top.kill("b")
    journal.await_entry("c started")
    assert [e.split()[0] for e in journal.entries("started")] == started
    assert top.alive() == ["a", "b", "c"]


@pytest.mark.own_threads
def test_no_thread_to_be_had_is_a_try_that_failed(stage: Stage, journal: Journal, thread_famine: Famine) -> None:
    top = stage.supervise(stage.worker("a"), max_restarts=3)
    thread_famine(2)
    top.kill("a")
    journal.await_entry("a started", 2)
    assert top.alive() == ["a"]


@pytest.mark.own_threads
def test_no_thread_to_be_had_for_long_is_escalated(stage: Stage, thread_famine: Famine) -> None:
    top = stage.supervise(stage.worker("a"), max_restarts=3)
    thread_famine(3)
    top.child("a").tell(raising(ValueError("dead")))
    assert "can't start new thread" in str(top.await_death())


@pytest.mark.own_threads
def test_no_thread_for_a_new_child_is_told_to_who_wanted_it(stage: Stage, thread_famine: Famine) -> None:
    top = stage.supervise(stage.worker("a"))
    thread_famine(1)
    with pytest.raises(ChildStartError, match="can't start new thread"):
        top.call("start_child", stage.worker("b"))
    assert pykka.ActorRegistry.get_all() == []
    assert top.known() == ["a"]


@pytest.mark.parametrize("strategy", [Strategy.REST_FOR_ONE, Strategy.ONE_FOR_ALL])
def test_between_two_tries_the_members_after_the_one_that_failed_are_stopped_and_may_be_started_by_hand(
    stage: Stage, journal: Journal, strategy: Strategy
) -> None:
    top = stage.supervise(*map(stage.worker, "abc"), strategy=strategy)
    stage.plan("b on_start", failing_at("b may fail"))
    top.child("b").tell(raising(ValueError("dead")))
    journal.await_entry("waits for b may fail")
    listed, started = top.ask("which_children"), top.ask("restart_child", "c")
    stage.event("b may fail").set()
    assert [info.alive for info in listed.get(timeout=10)] == [True, False, False]
    by_hand = started.get(timeout=10)
    top.settle()
    assert top.alive() == ["a", "b", "c"]
    assert top.child("c") is not by_hand, "the next try restarts the group"


@pytest.mark.parametrize("strategy", [Strategy.REST_FOR_ONE, Strategy.ONE_FOR_ALL])
def test_a_member_that_dies_while_the_group_is_being_started_is_another_restart(
    stage: Stage, journal: Journal, strategy: Strategy
) -> None:
    top = stage.supervise(*map(stage.worker, "abc"), strategy=strategy, max_restarts=2)
    stage.plan("a on_start", lambda puppet: puppet.actor_ref.tell(raising(ValueError("at once"))))
    stage.plan("b on_start", waiting("a is dead again"))
    top.child("a").tell(raising(ValueError("dead")))
    journal.await_entry("a failed", 2)
    stage.event("a is dead again").set()
    journal.await_entry("c started", 3)
    top.settle()
    assert top.alive() == ["a", "b", "c"]
    assert top.restarts() == {"a": 2, "b": 2, "c": 2}
    top.kill("a")
    assert isinstance(top.await_death(), RestartIntensityExceededError)


def test_the_death_of_one_before_supersedes_the_trying_of_one_after(stage: Stage, journal: Journal) -> None:
    top = stage.supervise(*map(stage.worker, "abc"), strategy=Strategy.REST_FOR_ONE, max_restarts=2)
    stage.plan("b on_start", failing_at("b may fail"))
    stage.plan("c on_stop", waiting("a is dead"))
    first = top.child("a")
    top.child("b").tell(raising(ValueError("dead")))
    journal.await_entry("waits for a is dead")
    first.tell(raising(ValueError("dead as well")))
    # The supervisor waits for c: it finds this before its own message to try b again.
    eventually(lambda: not top.ref.actor_inbox.empty())
    stage.event("a is dead").set()
    stage.event("b may fail").set()
    journal.await_entry("c started", 2)
    top.settle()
    assert top.alive() == ["a", "b", "c"]
    assert top.restarts() == {"a": 1, "b": 1, "c": 1}, "its second try found nothing to do"
