"""Supervisors under supervisors: what escalates, what goes down together, and what stays."""

from __future__ import annotations

import math
import threading
from functools import partial
from typing import Any

import pykka
import pytest

from pgflow_starter.supervision import (
    ChildInfo,
    ChildSpec,
    ChildStartError,
    ChildType,
    Restart,
    RestartIntensityExceededError,
    SupervisorActor,
    SupervisorFlags,
)
from pgflow_starter.supervision.tree import Tree
from tests.supervision.world import Journal, Stage, Supervised, raising, waiting


def branch(stage: Stage, branch_id: str, *children: ChildSpec, **options: Any) -> ChildSpec:
    """The spec of a supervisor that gives up at the first death."""
    start = partial(
        SupervisorActor.start,
        branch_id,
        children,
        clock=stage.clock,
        flags=SupervisorFlags(max_restarts=options.pop("max_restarts", 0)),
        tree=options.pop("tree", None),
    )
    return ChildSpec(branch_id, start, type=ChildType.SUPERVISOR, **options)


def grandchild(top: Supervised, branch_id: str, child_id: str) -> pykka.ActorRef[Any]:
    ref = top.child(branch_id).proxy().child(child_id).get(timeout=10)
    assert isinstance(ref, pykka.ActorRef)
    return ref


def test_a_branch_that_gives_up_is_restarted_with_all_its_children(stage: Stage, journal: Journal) -> None:
    top = stage.supervise(branch(stage, "left", stage.worker("a"), stage.worker("b")), stage.worker("c"))
    journal.forget()
    top.after_end_of("left", lambda _: grandchild(top, "left", "a").tell(raising(ValueError("dead"))))
    assert journal.entries("failed", "stopped", "started") == ["a failed", "b stopped", "a started", "b started"]
    assert top.restarts() == {"left": 1, "c": 0}


def test_a_death_within_the_branch_is_its_own_affair(stage: Stage, journal: Journal) -> None:
    top = stage.supervise(branch(stage, "left", stage.worker("a"), max_restarts=1))
    before = top.child("left")
    grandchild(top, "left", "a").tell(raising(ValueError("dead")))
    journal.await_entry("a started", 2)
    assert top.child("left") is before


def test_a_restarted_branch_begins_with_an_empty_window(stage: Stage, journal: Journal) -> None:
    top = stage.supervise(branch(stage, "left", stage.worker("a"), max_restarts=1), max_restarts=1)
    for deaths in range(1, 4):
        grandchild(top, "left", "a").tell(raising(ValueError("dead")))
        journal.await_entry("a started", deaths + 1)
    top.settle()
    assert top.restarts() == {"left": 1}


def test_escalation_ends_at_the_top_with_the_chain_of_causes(stage: Stage) -> None:
    inner = branch(stage, "inner", stage.worker("a"))
    top = stage.supervise(branch(stage, "outer", inner), max_restarts=0)
    ref = top.child("outer").proxy().child("inner").get(timeout=10).proxy().child("a").get(timeout=10)
    ref.tell(raising(ValueError("the root of it")))
    end: BaseException | None = top.await_death()
    chain = []
    while end is not None:
        chain.append(end)
        end = end.__cause__
    assert [type(e) for e in chain] == [RestartIntensityExceededError] * 3 + [ValueError]
    assert [str(e).split("'")[1] for e in chain[:3]] == ["top", "outer", "inner"]


def test_a_branch_whose_start_fails_fails_the_start_of_the_whole_by_name(stage: Stage, journal: Journal) -> None:
    stage.plan("b on_start", ValueError("no luck"))
    with pytest.raises(ChildStartError, match=r"child 'left' failed to start: ChildStartError: .* child 'b' failed"):
        stage.supervise(stage.worker("c"), branch(stage, "left", stage.worker("a"), stage.worker("b")))
    assert journal.entries("started", "stopped") == ["c started", "a started", "a stopped", "c stopped"]


def test_a_branch_that_cannot_start_again_is_tried_again(stage: Stage, journal: Journal) -> None:
    top = stage.supervise(branch(stage, "left", stage.worker("a"), stage.worker("b")), max_restarts=3)
    stage.plan("b on_start", ValueError("not yet"))
    top.after_end_of("left", lambda _: grandchild(top, "left", "a").tell(raising(ValueError("dead"))))
    journal.await_entry("b started", 2)
    assert top.restarts() == {"left": 1}


def test_stopping_the_top_stops_the_leaves_in_reverse(stage: Stage, journal: Journal) -> None:
    left = branch(stage, "left", stage.worker("a"), stage.worker("b"))
    right = branch(stage, "right", stage.worker("c"), stage.worker("d"))
    top = stage.supervise(left, right)
    top.ref.stop()
    assert journal.entries("stopped") == [f"{c} stopped" for c in "dcba"]


def test_counts_tell_supervisors_from_workers(stage: Stage) -> None:
    top = stage.supervise(branch(stage, "left"), stage.worker("a"))
    counts = top.call("count_children")
    assert (counts["supervisors"], counts["workers"], counts["active"]) == (1, 1, 2)


def test_a_temporary_branch_that_gives_up_is_not_restarted(stage: Stage) -> None:
    top = stage.supervise(branch(stage, "left", stage.worker("a"), restart=Restart.TEMPORARY))
    top.after_end_of("left", lambda _: grandchild(top, "left", "a").tell(raising(ValueError("dead"))))
    assert top.known() == []


def test_a_supervisor_that_is_abandoned_takes_its_children_with_it(stage: Stage, journal: Journal) -> None:
    hung = stage.worker("b", shutdown=math.inf)
    top = stage.supervise(branch(stage, "left", stage.worker("a"), hung, stage.worker("c"), shutdown=0.2))
    child, sibling = grandchild(top, "left", "b"), grandchild(top, "left", "a")
    asked = child.ask(waiting("never"), block=False)
    journal.await_entry("waits for never")
    top.call("terminate_child", "left")
    assert top.call("count_children")["abandoned"] == 1
    assert sibling.actor_stopped.wait(10)
    with pytest.raises(pykka.Timeout):
        asked.get(timeout=10)


def test_a_supervisor_abandoned_in_its_start_takes_its_children_with_it(stage: Stage, journal: Journal) -> None:
    top = stage.supervise(branch(stage, "left", stage.worker("a"), stage.worker("b"), shutdown=0.05), max_restarts=5)
    stage.plan("b on_start", waiting("never"))
    grandchild(top, "left", "b").tell(raising(ValueError("dead")))
    journal.await_entry("waits for never")
    assert journal.count("a started") == 2
    # top waits for left to start again, and left for b: nothing can be asked of them, but top can be abandoned
    asked = top.ask("which_children")
    top.link.abandon()
    with pytest.raises(pykka.ActorDeadError):
        asked.get(timeout=10)
    assert top.link.wait_ended(10)
    stage.event("never").set()
    for thread in threading.enumerate():
        if thread.name.startswith("pgflow-supervisor"):
            thread.join(10)
            assert not thread.is_alive()


def test_a_child_that_is_just_being_added_goes_with_its_abandoned_supervisor(stage: Stage, journal: Journal) -> None:
    top = stage.supervise(stage.worker("a"))
    stage.plan("b on_start", waiting("never"))
    added = top.ask("start_child", stage.worker("b"))
    journal.await_entry("waits for never")
    top.link.abandon()
    with pytest.raises((pykka.Timeout, ChildStartError)):
        added.get(timeout=10)
    stage.event("never").set()
    journal.await_entry("b failed")


def test_what_an_abandoned_supervisor_says_of_its_children_is_ignored(stage: Stage, journal: Journal) -> None:
    tree = Tree()
    hung = stage.worker("a", shutdown=math.inf)
    top = stage.supervise(branch(stage, "left", hung, tree=tree, shutdown=0))
    grandchild(top, "left", "a").tell(waiting("never"))
    journal.await_entry("waits for never")
    first = top.child("left")
    top.call("terminate_child", "left")
    top.call("restart_child", "left")
    stage.event("never").set()
    journal.await_entry("a failed")
    thread_gone = first.actor_stopped.wait(10)
    assert thread_gone
    left = ChildInfo("left", "top", "supervisor", 0, True)
    assert tree.flat(left) == (left, ChildInfo("a", "left", "worker", 0, True))
    assert tree.ref("left") is top.child("left")


def test_the_tree_is_told_flat_parents_before_children(stage: Stage) -> None:
    tree = Tree()
    left = branch(stage, "left", stage.worker("a"), tree=tree)
    stage.supervise(left, stage.worker("b"), branch(stage, "right", stage.worker("c"), tree=tree), tree=tree)
    flat = tree.flat(ChildInfo("top", None, "supervisor", 0, True))
    assert [(info.id, info.parent) for info in flat] == [
        ("top", None),
        ("left", "top"),
        ("b", "top"),
        ("right", "top"),
        ("a", "left"),
        ("c", "right"),
    ]


def test_a_branch_named_like_its_parent_is_told_once(stage: Stage) -> None:
    tree = Tree()
    below = (ChildInfo("top", "top", "supervisor", 0, True), ChildInfo("a", "top", "worker", 0, True))
    tree.enter("top", stage.supervise().ref, lambda: below)
    assert tree.flat(ChildInfo("top", None, "supervisor", 0, True))[1:] == below


def test_a_transient_branch_that_gives_up_is_restarted(stage: Stage, journal: Journal) -> None:
    """Not so in Erlang, where a supervisor that gives up ends as if it had been asked to; here it always escalates."""
    top = stage.supervise(branch(stage, "left", stage.worker("a"), restart=Restart.TRANSIENT))
    top.after_end_of("left", lambda _: grandchild(top, "left", "a").tell(raising(ValueError("dead"))))
    assert (top.alive(), top.restarts()) == (["left"], {"left": 1})
    assert journal.count("a started") == 2


def test_a_branch_stopped_from_outside_comes_back_with_its_children(stage: Stage, journal: Journal) -> None:
    top = stage.supervise(branch(stage, "left", stage.worker("a"), stage.worker("b")))
    journal.forget()
    top.after_end_of("left", lambda ref: ref.stop())
    assert journal.entries("stopped", "started") == ["b stopped", "a stopped", "a started", "b started"]
