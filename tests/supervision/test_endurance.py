"""Many crashes: no thread stays, no reference stays, and calls in between are answered."""

from __future__ import annotations

import gc
import threading
import weakref
from functools import partial
from typing import Any

import pykka
import pytest

from pgflow_starter.supervision import Actor, ChildInfo, ChildSpec, Strategy
from pgflow_starter.supervision.tree import Tree
from tests.supervision.world import PATIENCE, Stage, raising, saying

CRASHES = 200
WHILE_READ = 40  # each waits for the busy reader to be put off the processor
ROOT = ChildInfo("top", None, "supervisor", 0, True)


class Entered(Actor):
    """Is called by name, through a tree."""

    def __init__(self, tree: Tree) -> None:
        super().__init__()
        self._tree = tree

    def on_start(self) -> None:
        self._tree.enter("entered", self.actor_ref)

    def double(self, number: int) -> int:
        return 2 * number

    def on_receive(self, message: Any) -> Any:
        raise message


@pytest.mark.own_threads
@pytest.mark.parametrize("strategy", list(Strategy))
def test_two_hundred_crashes_leave_no_thread(stage: Stage, strategy: Strategy) -> None:
    before = threading.active_count()
    top = stage.supervise(*map(stage.worker, "abc"), strategy=strategy, max_restarts=CRASHES)
    for _ in range(CRASHES):
        top.kill("b")
    assert top.restarts()["b"] == CRASHES
    assert top.alive() == ["a", "b", "c"]
    top.ref.stop()
    for thread in threading.enumerate():
        if thread.name.startswith("pgflow"):
            thread.join(PATIENCE)
    assert threading.active_count() == before


@pytest.mark.filterwarnings("ignore")
def test_dead_incarnations_are_not_kept(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pgflow_starter.supervision.actor.logger.disabled", True)  # pytest keeps what is logged
    monkeypatch.setattr("pgflow_starter.supervision.restarter.call_logged", lambda *_: None)
    top = stage.supervise(stage.worker("a"), max_restarts=CRASHES)
    dead = []
    for _ in range(20):
        ref = top.child("a")
        dead.append(weakref.ref(ref.ask(lambda puppet: puppet, timeout=PATIENCE)))
        ref.tell(raising(ValueError("dead")))
        ref.actor_stopped.wait(PATIENCE)
        while top.child("a") is ref:
            top.settle()
        del ref
    gc.collect()
    assert [actor for actor in dead if actor() is not None] == []


def test_calls_by_name_survive_any_number_of_crashes(stage: Stage) -> None:
    tree = Tree()
    top = stage.supervise(ChildSpec("entered", partial(Entered.start, tree)), max_restarts=CRASHES)
    done = threading.Event()

    def crash() -> None:
        for number in range(CRASHES):
            ref = tree.ref("entered")
            assert ref is not None
            try:
                ref.tell(ValueError(f"crash {number}"))
            except pykka.ActorDeadError:
                continue
            tree.await_other("entered", ref, PATIENCE)
        done.set()

    crasher = threading.Thread(target=crash)
    crasher.start()
    number = 0
    while not done.is_set():
        number += 1
        assert tree.call("entered", "double", number, timeout=PATIENCE) == 2 * number
    crasher.join(PATIENCE)
    assert top.alive() == ["entered"]


def test_the_tree_can_be_read_at_any_moment(stage: Stage) -> None:
    tree = Tree()
    top = stage.supervise(*map(stage.worker, "abc"), strategy=Strategy.ONE_FOR_ALL, max_restarts=CRASHES, tree=tree)
    done = threading.Event()
    failures: list[BaseException] = []

    def read() -> None:
        try:
            while not done.is_set():
                assert [info.id for info in tree.flat(ROOT)] == ["top", "a", "b", "c"]
        except BaseException as error:
            failures.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(WHILE_READ):
        top.kill("b")
    done.set()
    reader.join(PATIENCE)
    assert failures == []


def test_a_new_incarnation_knows_of_its_restart(stage: Stage) -> None:
    tree = Tree()
    seen: list[int] = []
    top = stage.supervise(stage.worker("a"), tree=tree)
    stage.plan("a on_start", lambda _: seen.append(tree.flat(ROOT)[1].restarts))
    top.kill("a")
    assert seen == [1]


def test_admin_calls_from_many_threads_against_crashes_are_all_answered(stage: Stage) -> None:
    top = stage.dynamic(*map(stage.worker, "abcd"), max_restarts=10_000)
    failures: list[BaseException] = []

    def administer(child_id: str) -> None:
        try:
            for _ in range(50):
                top.child(child_id).tell(raising(ValueError("dead")))
                top.call("which_children")
                top.call("terminate_child", child_id)
                top.call("ensure_child", stage.worker(child_id)).ask(saying("here"), timeout=PATIENCE)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=administer, args=(c,)) for c in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    assert sorted(top.alive()) == ["a", "b", "c", "d"]
