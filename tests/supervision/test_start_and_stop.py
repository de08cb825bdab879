"""Children start in order, one after the other, and stop in reverse; a start that fails takes back what was done."""

from __future__ import annotations

from functools import partial

import pykka
import pytest

from pgflow_starter.supervision import ChildSpec, ChildStartError, SupervisorActor
from tests.supervision.world import Journal, Puppet, Stage, Supervised, saying, waiting


def test_children_start_in_the_order_of_their_specs(stage: Stage, journal: Journal) -> None:
    stage.supervise(*map(stage.worker, "abc"))
    assert journal.entries() == ["a started", "b started", "c started"]


def test_a_child_starts_only_when_the_one_before_has_started(stage: Stage, journal: Journal) -> None:
    stage.plan("a on_start", waiting("a may start"))
    ref = SupervisorActor.start("top", [stage.worker("a"), stage.worker("b")], clock=stage.clock)
    journal.await_entry("waits for a may start")
    assert journal.entries("started") == []
    stage.event("a may start").set()
    journal.await_entry("b started")
    assert journal.entries("started") == ["a started", "b started"]
    ref.stop()


def test_a_supervisor_without_children_runs(stage: Stage) -> None:
    top = stage.supervise()
    assert top.call("count_children") == {"specs": 0, "active": 0, "supervisors": 0, "workers": 0, "abandoned": 0}


def test_calls_are_answered_when_all_children_have_started(stage: Stage) -> None:
    stage.plan("b on_start", waiting("b may start"))
    ref = SupervisorActor.start("top", [stage.worker("a"), stage.worker("b")], clock=stage.clock)
    answer = ref.proxy().which_children()
    stage.journal.await_entry("waits for b may start")
    stage.event("b may start").set()
    assert [info.alive for info in answer.get(timeout=10)] == [True, True]
    ref.stop()


def test_children_stop_in_reverse_order_one_at_a_time(stage: Stage, journal: Journal) -> None:
    top = stage.supervise(*map(stage.worker, "abc"))
    journal.forget()
    top.ref.stop()
    assert journal.entries() == [f"{c} {verb}" for c in "cba" for verb in ("cancelled", "stopped")]


def test_stop_returns_when_all_children_have_ended(stage: Stage) -> None:
    top = stage.supervise(*map(stage.worker, "ab"))
    children = [top.child("a"), top.child("b")]
    assert top.ref.stop() is True
    assert not any(child.is_alive() for child in children)


def test_stopping_a_stopped_supervisor_is_no_error(stage: Stage) -> None:
    top = stage.supervise(stage.worker("a"))
    top.ref.stop()
    assert top.ref.stop() is False


def test_two_who_stop_it_at_once_both_wait_for_the_end(stage: Stage) -> None:
    stage.plan("a on_stop", waiting("a may stop"))
    top = stage.supervise(stage.worker("a"))
    stops = [top.ref.stop(block=False), top.ref.stop(block=False)]
    stage.journal.await_entry("waits for a may stop")
    for stop in stops:
        with pytest.raises(pykka.Timeout):
            stop.get(timeout=0)
    stage.event("a may stop").set()
    assert [stop.get(timeout=10) for stop in stops] == [True, True]


@pytest.mark.parametrize("where", ["constructor", "on_start"])
@pytest.mark.parametrize("error", [ValueError("no luck"), SystemExit("no luck")], ids=["Exception", "SystemExit"])
def test_the_first_failing_start_stops_those_before_in_reverse(
    stage: Stage, journal: Journal, where: str, error: BaseException
) -> None:
    stage.plan(f"c {where}", error)
    with pytest.raises(ChildStartError, match=f"child 'c' failed to start: {type(error).__name__}: no luck") as raised:
        stage.supervise(*map(stage.worker, "abcd"))
    assert raised.value.__cause__ is error
    assert journal.entries("started", "stopped") == ["a started", "b started", "b stopped", "a stopped"]


def test_a_supervisor_whose_start_failed_is_dead(stage: Stage) -> None:
    stage.plan("a on_start", ValueError("no luck"))
    ref = SupervisorActor.start("top", [stage.worker("a")], clock=stage.clock)
    with pytest.raises(pykka.ActorDeadError):
        ref.ask("anything", timeout=10)


def test_a_start_that_returns_no_actor_fails(stage: Stage) -> None:
    with pytest.raises(ChildStartError, match="child 'a' failed to start: TypeError: a supervised child must be"):
        stage.supervise(ChildSpec("a", lambda: None))


def test_a_plain_pykka_actor_is_refused_as_a_child(stage: Stage) -> None:
    class Plain(pykka.ThreadingActor):
        pass

    plain = Plain.start()
    with pytest.raises(ChildStartError, match=r"must be started as a pgflow_starter\.supervision\.Actor"):
        stage.supervise(ChildSpec("a", lambda: plain))
    assert plain.stop(), "what the supervisor did not start is not its to stop"


def test_an_actor_of_somebody_else_is_refused_as_a_child(stage: Stage) -> None:
    top = stage.supervise(stage.worker("a"))
    other = top.child("a")
    with pytest.raises(ChildStartError, match="TypeError"):
        top.call("start_child", ChildSpec("b", lambda: other))
    assert other.ask(saying("I am well")) == "I am well"


def test_a_start_that_raises_after_it_made_the_actor_leaves_none_behind(stage: Stage, journal: Journal) -> None:
    def start() -> None:
        stage.worker("a").start()
        raise ValueError("too late")

    with pytest.raises(ChildStartError, match="child 'x' failed to start: ValueError: too late"):
        stage.supervise(ChildSpec("x", start))
    assert journal.entries() == ["a started", "a cancelled", "a stopped"]


def test_a_start_that_returns_a_proxy_leaves_no_actor_behind(stage: Stage, journal: Journal) -> None:
    with pytest.raises(ChildStartError, match="TypeError"):
        stage.supervise(ChildSpec("x", lambda: stage.worker("a").start().proxy()))
    assert journal.entries("stopped") == ["a stopped"]


def test_an_actor_that_was_made_but_not_started_is_refused(stage: Stage) -> None:
    with pytest.raises(ChildStartError, match="TypeError"):
        stage.supervise(ChildSpec("x", lambda: Puppet("a", stage).actor_ref))


def test_what_a_child_starts_by_itself_is_not_supervised(stage: Stage) -> None:
    inner: list[pykka.ActorRef[Puppet]] = []
    stage.plan("a constructor", lambda _: inner.append(stage.worker("own").start()))
    top = stage.supervise(stage.worker("a"))
    assert top.alive() == ["a"]
    inner[0].stop()
    assert top.alive() == ["a"]
    assert stage.journal.entries("ended") == []


def test_children_may_be_a_function_that_each_incarnation_asks(stage: Stage) -> None:
    specs = [stage.worker("a")]
    start = partial(SupervisorActor.start, "top", lambda: specs, clock=stage.clock)
    first = Supervised(stage, start)
    specs.append(stage.worker("b"))
    assert first.known() == ["a"]
    first.ref.stop()
    second = Supervised(stage, start)
    assert second.known() == ["a", "b"]
    second.ref.stop()
