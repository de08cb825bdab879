"""Every death is seen, whatever it was, and takes nobody else with it."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import pykka
import pytest

from pgflow_starter.supervision import ChildSpec, DynamicSupervisorActor, Restart, SupervisorActor
from tests.supervision.world import PATIENCE, Journal, Listed, Puppet, Stage, raising, saying, waiting

HARD: list[BaseException] = [
    SystemExit(3),
    KeyboardInterrupt("^C"),
    asyncio.CancelledError("cancelled"),
    GeneratorExit("closed"),
    pytest.fail.Exception("a test's outcome"),
]
hard = pytest.mark.parametrize("error", HARD, ids=lambda e: type(e).__name__)


class Bystander(pykka.ThreadingActor):
    """An actor of another library."""

    def on_receive(self, message: Any) -> Any:
        if isinstance(message, BaseException):
            raise message
        return message


@hard
def test_an_exception_of_any_kind_in_a_told_message_is_a_death(stage: Stage, error: BaseException) -> None:
    top = stage.supervise(stage.worker("a"))
    top.kill("a", error)
    assert top.restarts() == {"a": 1}


@hard
def test_who_asked_gets_what_the_handler_died_of(stage: Stage, error: BaseException) -> None:
    top = stage.supervise(stage.worker("a"))
    answers = []
    top.after_end_of("a", lambda ref: answers.append(ref.ask(raising(error), block=False)))
    with pytest.raises(type(error)) as raised:
        answers[0].get(timeout=10)
    assert raised.value is error
    assert top.restarts() == {"a": 1}


@hard
def test_an_on_start_may_die_of_anything(stage: Stage, journal: Journal, error: BaseException) -> None:
    top = stage.supervise(stage.worker("a"))
    stage.plan("a on_start", error)
    top.kill("a")
    journal.await_entry("a started", 2)
    assert top.alive() == ["a"]


@hard
def test_an_on_stop_may_die_of_anything(stage: Stage, error: BaseException) -> None:
    top = stage.supervise(stage.worker("a"))
    stage.plan("a on_stop", error)
    top.after_end_of("a", lambda ref: ref.stop())
    assert top.restarts() == {"a": 1}


@hard
def test_an_on_failure_that_raises_hides_no_death(stage: Stage, error: BaseException) -> None:
    top = stage.supervise(stage.worker("a"))

    def deed(puppet: Any) -> None:
        puppet.on_failure = raising(error)
        raise ValueError("dead")

    top.after_end_of("a", lambda ref: ref.tell(deed))
    assert top.restarts() == {"a": 1}


@hard
def test_the_other_actors_of_the_process_survive(stage: Stage, error: BaseException) -> None:
    bystander = Bystander.start()
    top = stage.supervise(stage.worker("a"), ChildSpec("b", partial(Listed.start, "b", stage)))
    before = top.child("b")
    top.kill("a", error)
    assert bystander.ask("here") == "here"
    assert top.child("b") is before
    bystander.stop()


def test_children_stopped_from_outside_come_back(stage: Stage) -> None:
    top = stage.supervise(stage.worker("a"))
    top.after_end_of("a", lambda ref: ref.stop())
    assert top.child("a").ask(saying("back")) == "back"


def test_stop_all_of_another_library_takes_nobody_down_for_good(stage: Stage) -> None:
    top = stage.supervise(*[ChildSpec(c, partial(Listed.start, c, stage)) for c in "abc"])
    assert len(pykka.ActorRegistry.get_all()) == 3
    pykka.ActorRegistry.stop_all()
    for child_id in "abc":
        top.await_end_of(child_id)
    assert top.restarts() == {"a": 1, "b": 1, "c": 1}
    assert len(pykka.ActorRegistry.get_all()) == 3


def test_an_actor_of_another_library_that_exits_takes_nobody_down_for_good(stage: Stage) -> None:
    top = stage.supervise(ChildSpec("a", partial(Listed.start, "a", stage)), stage.worker("b"))
    Bystander.start().tell(SystemExit("pykka stops every registered actor for this"))
    top.await_end_of("a")
    assert top.restarts() == {"a": 1, "b": 0}


def test_actors_are_in_the_registry_only_where_they_want_to_be(stage: Stage) -> None:
    top = stage.supervise(stage.worker("a"), ChildSpec("b", partial(Listed.start, "b", stage)))
    assert pykka.ActorRegistry.get_all() == [top.child("b")]


@pytest.mark.parametrize("end", ["stop", "death", "start", "name"])
def test_an_actor_that_ended_is_in_no_registry(stage: Stage, monkeypatch: pytest.MonkeyPatch, end: str) -> None:
    if end == "start":
        stage.plan("a on_start", ValueError("no luck"))
    if end == "name":
        monkeypatch.setattr(Listed, "name", lambda _: 1 / 0)
    top = stage.supervise()
    try:
        ref = top.call("start_child", ChildSpec("a", partial(Listed.start, "a", stage), Restart.TEMPORARY))
    except Exception:
        assert end in {"start", "name"}
    else:
        top.after_end_of("a", lambda _: ref.stop() if end == "stop" else ref.tell(raising(ValueError("dead"))))
    assert pykka.ActorRegistry.get_all() == []


def test_an_actor_without_a_supervisor_ends_as_quietly(stage: Stage, journal: Journal) -> None:
    ref = stage.worker("alone").start()
    with pytest.raises(SystemExit):
        ref.ask(raising(SystemExit(1)), timeout=10)
    journal.await_entry("alone failed")
    ref.actor_stopped.wait(10)
    with pytest.raises(pykka.ActorDeadError):
        ref.ask(saying("still there?"), timeout=10)


def test_a_child_that_dies_while_its_supervisor_stops_is_just_gone(stage: Stage, journal: Journal) -> None:
    stage.plan("b on_stop", lambda _: stage.wait("a is dead"))
    top = stage.supervise(*map(stage.worker, "ab"))
    child = top.child("a")
    stopped = top.ref.stop(block=False)
    journal.await_entry("waits for a is dead")
    child.tell(raising(ValueError("now of all times")))
    journal.await_entry("a failed")
    stage.event("a is dead").set()
    assert stopped.get(timeout=10) is True
    assert top.link.reason is None
    assert journal.count("a started") == 1


def test_a_child_that_dies_of_being_stopped_does_not_hold_up_the_others(stage: Stage, journal: Journal) -> None:
    stage.plan("b on_stop", SystemExit("in on_stop"))
    top = stage.supervise(*map(stage.worker, "abc"))
    assert top.ref.stop() is True
    assert journal.entries("stopped", "failed") == ["c stopped", "b failed", "a stopped"]


def test_a_cancel_that_raises_does_not_hold_up_the_others(stage: Stage, journal: Journal) -> None:
    stage.plan("b cancel", RuntimeError("no thread to cancel with"))
    top = stage.supervise(*map(stage.worker, "abc"))
    top.ref.stop()
    assert journal.entries("stopped") == ["c stopped", "b stopped", "a stopped"]


def test_a_supervisor_that_dies_of_a_fault_of_its_own_stops_its_children(
    stage: Stage, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    top = stage.supervise(*map(stage.worker, "abc"))
    journal.forget()
    monkeypatch.setattr(stage.clock, "monotonic", lambda: 1 / 0)
    top.child("b").tell(raising(ValueError("dead")))
    assert isinstance(top.await_death(), ZeroDivisionError)
    assert journal.entries("stopped") == ["c stopped", "a stopped"]


@pytest.mark.parametrize("cls", [SupervisorActor, DynamicSupervisorActor])
def test_no_child_outlives_a_supervisor_that_cannot_even_stop_them_in_order(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, cls: type[SupervisorActor]
) -> None:
    top = stage.supervise(*map(stage.worker, "abc"), cls=cls)
    children = [top.child(c) for c in "abc"]
    monkeypatch.setattr(stage.clock, "monotonic", lambda: 1 / 0)
    children[1].tell(raising(ValueError("dead")))
    assert isinstance(top.await_death(), ZeroDivisionError)
    for child in children:
        assert child.actor_stopped.wait(PATIENCE)


def test_hooks_that_raise_do_not_keep_a_supervisor_from_ending_a_child(
    stage: Stage, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def abandon(puppet: Puppet) -> None:
        super(Puppet, puppet).abandon()
        raise SystemExit("from abandon")

    monkeypatch.setattr(Puppet, "stop", raising(SystemExit("from stop")))
    monkeypatch.setattr(Puppet, "abandon", abandon)
    top = stage.supervise(stage.worker("a", shutdown=0.05), stage.worker("b"))
    top.child("a").tell(waiting("never"))
    journal.await_entry("waits for never")
    top.call("terminate_child", "a")
    assert top.alive() == ["b"]
    assert top.call("restart_child", "a").ask(saying("well"), timeout=PATIENCE) == "well"
