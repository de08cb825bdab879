"""The calls on a supervisor: what they answer, what they refuse, and that a refusal does no harm."""

from __future__ import annotations

from typing import Any

import pytest
from pykka.messages import ProxyCall

from pgflow_starter.supervision import ChildInfo, ChildStartError, Refusal, Restart, SupervisionError
from tests.supervision.world import Journal, Stage, failing_at, raising


def test_which_children_tells_them_in_start_order(stage: Stage) -> None:
    top = stage.supervise(*map(stage.worker, "ab"))
    top.call("start_child", stage.worker("0"))
    top.kill("b")
    assert top.call("which_children") == (
        ChildInfo("a", "top", "worker", 0, True),
        ChildInfo("b", "top", "worker", 1, True),
        ChildInfo("0", "top", "worker", 0, True),
    )


def test_count_children_counts_specs_and_those_that_run(stage: Stage) -> None:
    top = stage.supervise(*map(stage.worker, "abc"))
    top.call("terminate_child", "b")
    assert top.call("count_children") == {"specs": 3, "active": 2, "supervisors": 0, "workers": 3, "abandoned": 0}


def test_get_childspec_answers_the_spec_of_a_child_that_runs_and_of_one_that_does_not(stage: Stage) -> None:
    spec = stage.worker("a", restart="transient", shutdown=7)
    top = stage.supervise(spec)
    assert top.call("get_childspec", "a") is spec
    top.call("terminate_child", "a")
    assert top.call("get_childspec", "a") is spec
    with pytest.raises(SupervisionError, match="supervisor 'top' has no child 'b'") as refused:
        top.call("get_childspec", "b")
    assert refused.value.reason is Refusal.NOT_FOUND


def test_start_child_answers_its_ref_and_keeps_it_last(stage: Stage) -> None:
    top = stage.supervise(stage.worker("a"))
    ref = top.call("start_child", stage.worker("b"))
    assert top.child("b") is ref
    assert top.alive() == ["a", "b"]


def test_a_child_that_was_started_later_is_supervised_like_the_others(stage: Stage, journal: Journal) -> None:
    top = stage.supervise(stage.worker("a"))
    top.call("start_child", stage.worker("b"))
    top.kill("b")
    assert top.restarts() == {"a": 0, "b": 1}
    top.ref.stop()
    assert journal.entries("stopped") == ["b stopped", "a stopped"]


def test_start_child_with_the_id_of_a_running_child_tells_its_ref(stage: Stage) -> None:
    top = stage.supervise(stage.worker("a"))
    with pytest.raises(SupervisionError, match="child 'a' is already started") as refused:
        top.call("start_child", stage.worker("a"))
    assert refused.value.ref is top.child("a")


def test_start_child_with_the_id_of_a_stopped_child_is_refused(stage: Stage) -> None:
    top = stage.supervise(stage.worker("a"))
    top.call("terminate_child", "a")
    with pytest.raises(SupervisionError, match="child 'a' is already present") as refused:
        top.call("start_child", stage.worker("a"))
    assert refused.value.ref is None


@pytest.mark.parametrize("where", ["constructor", "on_start"])
@pytest.mark.parametrize("error", [ValueError("no"), SystemExit("no"), KeyboardInterrupt("no")])
def test_a_child_that_fails_to_start_is_not_kept(stage: Stage, where: str, error: BaseException) -> None:
    top = stage.supervise(stage.worker("a"))
    stage.plan(f"b {where}", error)
    with pytest.raises(ChildStartError, match=f"child 'b' failed to start: {type(error).__name__}: no") as failed:
        top.call("start_child", stage.worker("b"))
    assert failed.value.__cause__ is error
    assert top.known() == ["a"]
    assert top.call("start_child", stage.worker("b")).is_alive()


def test_what_is_no_spec_is_refused(stage: Stage) -> None:
    top = stage.supervise()
    with pytest.raises(TypeError, match="children must be ChildSpec objects"):
        top.call("start_child", "a")


def test_terminate_child_stops_it_and_keeps_the_spec(stage: Stage, journal: Journal) -> None:
    top = stage.supervise(stage.worker("a"), max_restarts=0)
    top.call("terminate_child", "a")
    assert journal.entries("stopped") == ["a stopped"]
    assert (top.known(), top.alive()) == (["a"], [])


def test_terminating_a_stopped_child_again_is_no_error(stage: Stage) -> None:
    top = stage.supervise(stage.worker("a"))
    top.call("terminate_child", "a")
    assert top.call("terminate_child", "a") is None


def test_terminating_a_temporary_child_drops_its_spec(stage: Stage) -> None:
    top = stage.supervise(stage.worker("a", Restart.TEMPORARY))
    top.call("terminate_child", "a")
    assert top.known() == []


def test_restart_child_starts_a_stopped_child(stage: Stage) -> None:
    top = stage.supervise(stage.worker("a"), max_restarts=0)
    top.call("terminate_child", "a")
    ref = top.call("restart_child", "a")
    assert top.child("a") is ref
    assert top.alive() == ["a"]


def test_a_transient_child_that_ended_can_be_restarted(stage: Stage) -> None:
    top = stage.supervise(stage.worker("a", Restart.TRANSIENT))
    top.after_end_of("a", lambda ref: ref.stop())
    top.call("restart_child", "a")
    assert top.alive() == ["a"]


def test_a_restart_by_hand_that_fails_leaves_the_child_stopped(stage: Stage) -> None:
    top = stage.supervise(stage.worker("a"), max_restarts=0)
    top.call("terminate_child", "a")
    stage.plan("a on_start", ValueError("no luck"))
    with pytest.raises(ChildStartError, match="child 'a' failed to start: ValueError: no luck"):
        top.call("restart_child", "a")
    assert (top.known(), top.alive()) == (["a"], [])
    assert top.call("restart_child", "a").is_alive()


def test_delete_child_forgets_a_stopped_child(stage: Stage) -> None:
    top = stage.supervise(*map(stage.worker, "ab"))
    top.call("terminate_child", "a")
    top.call("delete_child", "a")
    assert top.known() == ["b"]


@pytest.mark.parametrize("method", ["restart_child", "delete_child"])
def test_a_running_child_is_neither_restarted_nor_deleted(stage: Stage, method: str) -> None:
    top = stage.supervise(stage.worker("a"))
    with pytest.raises(SupervisionError, match="child 'a' is running"):
        top.call(method, "a")
    assert top.alive() == ["a"]


@pytest.mark.parametrize("method", ["terminate_child", "restart_child", "delete_child"])
def test_an_unknown_child_is_refused(stage: Stage, method: str) -> None:
    top = stage.supervise(stage.worker("a"))
    with pytest.raises(SupervisionError, match="supervisor 'top' has no child 'b'"):
        top.call(method, "b")


@pytest.mark.parametrize(
    "call",
    [("terminate_child", "nobody"), ("start_child", None), ("start_child",), ("no_such_call",)],
    ids=["refused", "bad_argument", "no_argument", "unknown"],
)
def test_a_told_call_that_fails_does_the_supervisor_no_harm(stage: Stage, call: tuple[Any, ...]) -> None:
    top = stage.supervise(stage.worker("a"))
    before = top.child("a")
    before.tell(lambda _: top.ref.tell(ProxyCall(attr_path=call[:1], args=call[1:], kwargs={})))
    before.ask(lambda _: None)
    top.settle()
    assert top.child("a") is before


def test_a_child_may_tell_its_supervisor_to_start_another(stage: Stage, journal: Journal) -> None:
    top = stage.supervise(stage.worker("a"))
    message = ProxyCall(attr_path=("start_child",), args=(stage.worker("b"),), kwargs={})
    stage.plan("c on_start", lambda _: top.ref.tell(message))
    top.call("start_child", stage.worker("c"))
    journal.await_entry("b started")
    assert top.alive() == ["a", "c", "b"]


def test_ensure_child_answers_the_one_that_runs_and_starts_what_does_not(stage: Stage, journal: Journal) -> None:
    top = stage.supervise(stage.worker("a"))
    assert top.call("ensure_child", stage.worker("a")) is top.child("a")
    top.call("terminate_child", "a")
    assert top.call("ensure_child", stage.worker("a")) is top.child("a")
    assert top.call("ensure_child", stage.worker("b")) is top.child("b")
    assert journal.entries("started") == ["a started", "a started", "b started"]


def test_a_message_that_it_does_not_know_is_dropped(stage: Stage) -> None:
    top = stage.supervise(stage.worker("a"))
    top.ref.tell("what is this?")
    assert top.alive() == ["a"]


STOPPED, RUNNING, RESTARTING, UNKNOWN = "stopped", "running", "restarting", "unknown"


@pytest.mark.parametrize(
    ("method", "when", "reason"),
    [
        ("terminate_child", UNKNOWN, Refusal.NOT_FOUND),
        ("restart_child", UNKNOWN, Refusal.NOT_FOUND),
        ("delete_child", UNKNOWN, Refusal.NOT_FOUND),
        ("restart_child", RUNNING, Refusal.RUNNING),
        ("delete_child", RUNNING, Refusal.RUNNING),
        ("start_child", RUNNING, Refusal.ALREADY_STARTED),
        ("restart_child", RESTARTING, Refusal.RESTARTING),
        ("delete_child", RESTARTING, Refusal.RESTARTING),
        ("ensure_child", RESTARTING, Refusal.RESTARTING),
        ("start_child", RESTARTING, Refusal.ALREADY_PRESENT),
        ("start_child", STOPPED, Refusal.ALREADY_PRESENT),
    ],
)
def test_a_refusal_tells_its_reason_in_otps_words(stage: Stage, method: str, when: str, reason: Refusal) -> None:
    top = stage.supervise(stage.worker("a"))
    child_id = "b" if when == UNKNOWN else "a"
    if when == STOPPED:
        top.call("terminate_child", "a")
    if when == RESTARTING:
        stage.plan("a on_start", failing_at("a may fail"))
        top.child("a").tell(raising(ValueError("dead")))
        stage.journal.await_entry("waits for a may fail")
    answer = top.ask(method, stage.worker(child_id) if method in {"start_child", "ensure_child"} else child_id)
    stage.event("a may fail").set()
    with pytest.raises(SupervisionError) as refused:
        answer.get(timeout=10)
    assert refused.value.reason is reason
    assert (refused.value.ref is not None) is (when == RUNNING)


@pytest.mark.parametrize("when", [STOPPED, RUNNING, RESTARTING])
def test_a_child_can_be_terminated_whatever_it_is_doing(stage: Stage, when: str) -> None:
    top = stage.supervise(stage.worker("a"))
    if when == STOPPED:
        top.call("terminate_child", "a")
    if when == RESTARTING:
        stage.plan("a on_start", failing_at("a may fail"))
        top.child("a").tell(raising(ValueError("dead")))
        stage.journal.await_entry("waits for a may fail")
    answer = top.ask("terminate_child", "a")
    stage.event("a may fail").set()
    assert answer.get(timeout=10) is None
    assert (top.known(), top.alive()) == (["a"], [])
