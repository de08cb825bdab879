"""Permanent, transient and temporary children, and the ways in which they end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pykka
import pytest

from pgflow_starter.supervision import Restart
from tests.supervision.world import Journal, Stage, raising

End = Callable[[pykka.ActorRef[Any]], object]

NORMAL: dict[str, End] = {
    "stopping_itself": lambda ref: ref.tell(lambda puppet: puppet.stop()),
    "being_stopped_from_outside": lambda ref: ref.stop(),
}
ABNORMAL: dict[str, End] = {
    "an_exception": lambda ref: ref.tell(raising(ValueError("dead"))),
    "a_system_exit": lambda ref: ref.tell(raising(SystemExit(1))),
    "an_unknown_message": lambda ref: ref.tell("not callable"),
}
normal = pytest.mark.parametrize("end", NORMAL.values(), ids=NORMAL)
abnormal = pytest.mark.parametrize("end", ABNORMAL.values(), ids=ABNORMAL)
every = pytest.mark.parametrize("end", (NORMAL | ABNORMAL).values(), ids=NORMAL | ABNORMAL)


@every
def test_a_permanent_child_is_always_restarted(stage: Stage, end: End) -> None:
    top = stage.supervise(stage.worker("a"))
    before = top.child("a")
    top.after_end_of("a", end)
    assert top.child("a") is not before
    assert top.restarts() == {"a": 1}


@normal
def test_a_transient_child_that_ended_normally_stays_stopped_and_known(stage: Stage, end: End) -> None:
    top = stage.supervise(stage.worker("a", Restart.TRANSIENT))
    top.after_end_of("a", end)
    assert (top.known(), top.alive(), top.restarts()) == (["a"], [], {"a": 0})


@abnormal
def test_a_transient_child_that_died_is_restarted(stage: Stage, end: End) -> None:
    top = stage.supervise(stage.worker("a", Restart.TRANSIENT))
    top.after_end_of("a", end)
    assert (top.alive(), top.restarts()) == (["a"], {"a": 1})


@every
def test_a_temporary_child_is_never_restarted_and_is_forgotten(stage: Stage, end: End) -> None:
    top = stage.supervise(stage.worker("a", Restart.TEMPORARY), stage.worker("b"))
    top.after_end_of("a", end)
    assert top.known() == ["b"]


def test_an_on_stop_that_raises_makes_a_normal_end_an_abnormal_one(stage: Stage, journal: Journal) -> None:
    stage.plan("a on_stop", ValueError("cannot let go"))
    top = stage.supervise(stage.worker("a", Restart.TRANSIENT))
    top.after_end_of("a", lambda ref: ref.stop())
    assert (top.alive(), top.restarts()) == (["a"], {"a": 1})
    assert journal.entries("failed") == ["a failed"]


def test_a_normal_end_of_a_transient_child_is_no_restart_to_be_counted(stage: Stage) -> None:
    top = stage.supervise(stage.worker("a", Restart.TRANSIENT), stage.worker("b"), max_restarts=0)
    top.after_end_of("a", lambda ref: ref.stop())
    assert top.alive() == ["b"]


def test_deaths_of_temporary_children_are_no_restarts_to_be_counted(stage: Stage) -> None:
    top = stage.supervise(*[stage.worker(c, Restart.TEMPORARY) for c in "abcdef"], max_restarts=0)
    for child_id in "abcde":
        top.kill(child_id)
    assert top.alive() == ["f"]


def test_an_exception_in_an_ask_ends_nobody(stage: Stage) -> None:
    top = stage.supervise(stage.worker("a"))
    before = top.child("a")
    with pytest.raises(ValueError, match="yours"):
        before.ask(raising(ValueError("yours")), timeout=10)
    assert top.child("a") is before


def test_the_watcher_is_told_of_each_unexpected_end_and_its_reason(stage: Stage) -> None:
    told: list[tuple[str, str]] = []
    top = stage.supervise(
        stage.worker("a"),
        stage.worker("b", Restart.TEMPORARY),
        watcher=lambda child_id, reason: told.append((child_id, repr(reason))),
    )
    top.child("a").tell(raising(ValueError("one")))
    top.child("b").stop()
    while len(told) < 2:
        top.settle()
    top.call("terminate_child", "a")
    assert sorted(told) == [("a", "ValueError('one')"), ("b", "None")]


def test_a_watcher_that_raises_keeps_nobody_from_being_restarted(stage: Stage, journal: Journal) -> None:
    def watcher(child_id: str, reason: BaseException | None) -> None:
        journal.add(f"{child_id} died")
        raise RuntimeError("the watcher's own trouble")

    top = stage.supervise(stage.worker("a"), watcher=watcher)
    top.kill("a")
    assert top.restarts() == {"a": 1}


def test_an_exception_whose_text_cannot_be_had_does_no_further_harm(stage: Stage) -> None:
    class MuteError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    top = stage.supervise(stage.worker("a"))
    top.kill("a", MuteError())
    stage.plan("a on_start", MuteError())
    top.kill("a", MuteError())
    assert top.alive() == ["a"]
