"""one_for_one, rest_for_one and one_for_all: who is stopped and started again when one dies, and in which order."""

from __future__ import annotations

import pytest

from pgflow_starter.supervision import Restart, Strategy
from tests.supervision.world import Journal, Stage, failing_at, raising, waiting

ALL = Strategy.ONE_FOR_ALL
ONE = Strategy.ONE_FOR_ONE
REST = Strategy.REST_FOR_ONE


@pytest.mark.parametrize(
    ("strategy", "dies", "happens"),
    [
        (ONE, "b", ["b failed", "b started"]),
        (REST, "b", ["b failed", "d stopped", "c stopped", "b started", "c started", "d started"]),
        (REST, "d", ["d failed", "d started"]),
        (ALL, "b", ["b failed", "d stopped", "c stopped", "a stopped", *(f"{c} started" for c in "abcd")]),
        (ALL, "a", ["a failed", "d stopped", "c stopped", "b stopped", *(f"{c} started" for c in "abcd")]),
    ],
)
def test_who_depends_is_stopped_in_reverse_and_started_in_order(
    stage: Stage, journal: Journal, strategy: Strategy, dies: str, happens: list[str]
) -> None:
    top = stage.supervise(*map(stage.worker, "abcd"), strategy=strategy)
    journal.forget()
    top.kill(dies)
    assert journal.entries("failed", "stopped", "started") == happens
    assert top.alive() == list("abcd")


@pytest.mark.parametrize(("strategy", "kept"), [(ONE, "acd"), (REST, "a"), (ALL, "")])
def test_who_does_not_depend_keeps_its_incarnation(stage: Stage, strategy: Strategy, kept: str) -> None:
    top = stage.supervise(*map(stage.worker, "abcd"), strategy=strategy)
    before = {c: top.child(c) for c in "abcd"}
    top.kill("b")
    assert [c for c in "abcd" if top.child(c) is before[c]] == list(kept)


@pytest.mark.parametrize("strategy", [REST, ALL])
def test_a_temporary_member_of_the_group_is_stopped_and_not_started_again(
    stage: Stage, journal: Journal, strategy: Strategy
) -> None:
    top = stage.supervise(stage.worker("a"), stage.worker("b", Restart.TEMPORARY), stage.worker("c"), strategy=strategy)
    top.kill("a")
    assert journal.count("b stopped") == 1
    assert (top.known(), top.alive()) == (["a", "c"], ["a", "c"])


@pytest.mark.parametrize("strategy", [REST, ALL])
def test_a_temporary_member_is_forgotten_even_when_the_restart_of_the_group_fails(
    stage: Stage, strategy: Strategy
) -> None:
    top = stage.supervise(stage.worker("a"), stage.worker("b", Restart.TEMPORARY), stage.worker("c"), strategy=strategy)
    stage.plan("a on_start", failing_at("a may fail"))
    top.child("a").tell(raising(ValueError("dead")))
    stage.journal.await_entry("waits for a may fail")
    known = top.ask("which_children")
    stage.event("a may fail").set()
    assert [info.id for info in known.get(timeout=10)] == ["a", "c"]
    top.settle()
    assert top.alive() == ["a", "c"]


@pytest.mark.parametrize("strategy", [REST, ALL])
def test_the_death_of_a_temporary_child_takes_nobody_with_it(stage: Stage, strategy: Strategy) -> None:
    top = stage.supervise(stage.worker("a", Restart.TEMPORARY), stage.worker("b"), strategy=strategy)
    before = top.child("b")
    top.kill("a")
    assert top.child("b") is before


@pytest.mark.parametrize("strategy", [REST, ALL])
def test_the_normal_end_of_a_transient_child_takes_nobody_with_it(stage: Stage, strategy: Strategy) -> None:
    top = stage.supervise(stage.worker("a", Restart.TRANSIENT), stage.worker("b"), strategy=strategy)
    before = top.child("b")
    top.after_end_of("a", lambda ref: ref.stop())
    assert top.child("b") is before


@pytest.mark.parametrize("strategy", [REST, ALL])
def test_the_restart_of_a_group_starts_its_stopped_members_too(stage: Stage, strategy: Strategy) -> None:
    top = stage.supervise(stage.worker("a"), stage.worker("b", Restart.TRANSIENT), strategy=strategy)
    top.call("terminate_child", "b")
    assert top.alive() == ["a"]
    top.kill("a")
    assert top.alive() == ["a", "b"]


def test_a_group_that_dies_together_counts_as_one_restart(stage: Stage, journal: Journal) -> None:
    top = stage.supervise(*map(stage.worker, "abc"), strategy=ALL, max_restarts=1)
    stage.plan("c on_stop", waiting("news of b"))
    children = {c: top.child(c) for c in "ab"}
    children["a"].tell(raising(ValueError("first")))
    journal.await_entry("waits for news of b")
    children["b"].tell(raising(ValueError("second, while the group is being stopped")))
    journal.await_entry("b failed")
    stage.event("news of b").set()
    journal.await_entry("c started", 2)
    assert top.restarts() == {"a": 1, "b": 1, "c": 1}
    assert journal.entries("died") == ["a died"]


def test_a_member_that_hangs_is_abandoned_and_the_group_goes_on(stage: Stage, journal: Journal) -> None:
    top = stage.supervise(stage.worker("a"), stage.worker("b", shutdown=0), strategy=ALL)
    top.child("b").tell(waiting("never"))
    journal.await_entry("waits for never")
    top.kill("a")
    assert top.alive() == ["a", "b"]
    assert top.call("count_children")["abandoned"] == 1
