"""A thread cannot be killed: what `shutdown` gives a child, and what becomes of one that takes longer."""

from __future__ import annotations

import math
import threading
from queue import SimpleQueue

import pykka
import pytest

from pgflow_starter.supervision import AbandonedError, Actor, RestartIntensityExceededError
from tests.supervision.world import PATIENCE, Journal, Puppet, Stage, Supervised, raising, saying, waiting


def hanging(stage: Stage, top: Supervised, child_id: str = "a", event: str = "never") -> pykka.ActorRef[Actor]:
    """The ref of a child that has begun to hang in a message."""
    ref = top.child(child_id)
    ref.tell(waiting(event))
    stage.journal.await_entry(f"waits for {event}")
    return ref


def test_a_child_is_asked_to_give_up_before_it_is_waited_for(stage: Stage, journal: Journal) -> None:
    stage.plan("a cancel", lambda _: stage.event("given up").set())
    top = stage.supervise(stage.worker("a", shutdown=math.inf))
    hanging(stage, top, event="given up")
    top.call("terminate_child", "a")
    assert journal.entries("cancelled", "stopped") == ["a cancelled", "a stopped"]
    assert top.call("count_children")["abandoned"] == 0


@pytest.mark.parametrize("shutdown", [0, 0.05])
def test_a_child_that_hangs_longer_is_abandoned_and_counted(stage: Stage, shutdown: float) -> None:
    top = stage.supervise(stage.worker("a", shutdown=shutdown), stage.worker("b"))
    hanging(stage, top)
    top.call("terminate_child", "a")
    assert top.call("count_children") == {"specs": 2, "active": 1, "supervisors": 0, "workers": 2, "abandoned": 1}


@pytest.mark.parametrize("shutdown", [math.inf, threading.TIMEOUT_MAX * 2, 60], ids=str)
def test_a_child_with_time_is_waited_for(stage: Stage, shutdown: float) -> None:
    top = stage.supervise(stage.worker("a", shutdown=shutdown))
    hanging(stage, top, event="work")
    stopped = top.ref.stop(block=False)
    with pytest.raises(pykka.Timeout):
        stopped.get(timeout=0.05)
    stage.event("work").set()
    assert stopped.get(timeout=10) is True


def test_stopping_abandons_who_hangs_and_stops_the_others(stage: Stage, journal: Journal) -> None:
    top = stage.supervise(stage.worker("a"), stage.worker("b", shutdown=0), stage.worker("c"))
    hanging(stage, top, "b")
    assert top.ref.stop() is True
    assert journal.entries("stopped") == ["c stopped", "a stopped"]


def test_the_place_of_an_abandoned_child_is_free(stage: Stage) -> None:
    top = stage.supervise(stage.worker("a", shutdown=0))
    hanging(stage, top)
    top.call("terminate_child", "a")
    top.call("restart_child", "a")
    assert top.child("a").ask(saying("the new one"), timeout=10) == "the new one"


def test_the_late_death_of_an_abandoned_child_changes_nothing(stage: Stage, journal: Journal) -> None:
    top = stage.supervise(stage.worker("a", shutdown=0), max_restarts=0)
    top.child("a").tell(lambda puppet: (puppet.stage.wait("late"), raising(ValueError("late"))(puppet)))
    journal.await_entry("waits for late")
    top.call("terminate_child", "a")
    ref = top.call("restart_child", "a")
    stage.event("late").set()
    journal.await_entry("a failed")
    top.settle()
    assert top.child("a") is ref
    assert top.restarts() == {"a": 0}
    assert journal.entries("died", "ended") == []


def test_an_abandoned_child_takes_no_more_messages_and_skips_its_on_stop(stage: Stage, journal: Journal) -> None:
    top = stage.supervise(stage.worker("a", shutdown=0))
    ref = hanging(stage, top)
    ref.tell(lambda _: journal.add("a message of before"))
    top.call("terminate_child", "a")
    stage.event("never").set()
    journal.await_entry("a failed")
    assert "a message of before" not in journal.entries()
    assert journal.entries("stopped") == []


def test_an_abandoned_child_dies_of_being_abandoned(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    died_of: SimpleQueue[type[BaseException]] = SimpleQueue()
    top = stage.supervise(stage.worker("a", shutdown=0))
    ref = hanging(stage, top)
    monkeypatch.setattr(ref.actor_class, "on_failure", lambda _, kind, error, trace: died_of.put(kind))
    top.call("terminate_child", "a")
    stage.event("never").set()
    assert died_of.get(timeout=PATIENCE) is AbandonedError


def test_whoever_waits_for_an_abandoned_child_is_answered(stage: Stage) -> None:
    top = stage.supervise(stage.worker("a", shutdown=0))
    ref = top.child("a")
    under_way = ref.ask(waiting("never"), block=False)
    stage.journal.await_entry("waits for never")
    behind = [ref.ask(saying(n), block=False) for n in range(100)]
    stop = ref.stop(block=False)
    top.call("terminate_child", "a")
    with pytest.raises(pykka.Timeout, match="whether it carries the message out is unknown"):
        under_way.get(timeout=10)
    for future in behind:
        with pytest.raises(pykka.ActorDeadError):
            future.get(timeout=10)
    assert stop.get(timeout=10) is True


def test_a_child_that_hangs_in_its_on_stop_is_abandoned_as_well(stage: Stage) -> None:
    stage.plan("a on_stop", waiting("never"))
    top = stage.supervise(stage.worker("a", shutdown=0.05))
    asked = top.child("a").stop(block=False)
    stage.journal.await_entry("waits for never")
    top.call("terminate_child", "a")
    assert asked.get(timeout=10) is True
    assert top.call("count_children")["abandoned"] == 1


def test_a_backlog_does_not_outlive_an_abandoned_child(stage: Stage, journal: Journal) -> None:
    top = stage.supervise(stage.worker("a", shutdown=0.05))
    ref = hanging(stage, top)
    for _ in range(1000):
        ref.tell(lambda _: journal.add("worked off"))
    top.call("terminate_child", "a")
    stage.event("never").set()
    journal.await_entry("a failed")
    assert journal.count("worked off") == 0


def test_who_asks_just_as_a_child_is_abandoned_is_answered_too(stage: Stage) -> None:
    """The child has taken the message, and looks once more whether it is abandoned before it carries it out."""
    top = stage.supervise(stage.worker("a", shutdown=0))
    ref = top.child("a")

    class Meanwhile(threading.Event):
        def is_set(self) -> bool:
            before = super().is_set()
            if not before:
                top.call("terminate_child", "a")
            return before

    def prepare(puppet: Puppet) -> None:
        puppet.actor_stopped = Meanwhile()

    ref.ask(prepare, timeout=PATIENCE)
    stage.event("never")
    asked = ref.ask(waiting("never"), block=False)
    stage.journal.await_entry("waits for never")
    with pytest.raises(pykka.Timeout, match="whether it carries the message out is unknown"):
        asked.get(timeout=PATIENCE)


def test_a_supervisor_that_gives_up_abandons_who_hangs(stage: Stage, journal: Journal) -> None:
    top = stage.supervise(stage.worker("a"), stage.worker("b", shutdown=0.05), stage.worker("c"), max_restarts=0)
    asked = hanging(stage, top, "b").ask(saying("anybody?"), block=False)
    top.child("a").tell(raising(ValueError("dead")))
    assert isinstance(top.await_death(), RestartIntensityExceededError)
    assert journal.entries("stopped") == ["c stopped"]
    with pytest.raises(pykka.ActorDeadError):
        asked.get(timeout=PATIENCE)
