"""A tree with a starter in it, its siblings, and calls that block."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from typing import Any

import pykka

import pgflow_starter as pgflow
from pgflow_starter.supervision import (
    Actor,
    ChildInfo,
    ChildSpec,
    DynamicSupervisorActor,
    SupervisorActor,
    SupervisorFlags,
)
from tests.supervision.world import PATIENCE, Journal
from tests.support.starters import QUICK
from tests.support.waiting import eventually

NOWHERE = "host=127.0.0.1 port=1"
"""A database that is away: for what has to do with the life of a starter alone."""


class Sibling(Actor):
    """Writes down its life, and dies of what it is told."""

    thread_name = "pgflow-sibling"

    def __init__(self, name: str, journal: Journal) -> None:
        super().__init__()
        self._name = name
        self._journal = journal

    def on_start(self) -> None:
        self._journal.add(f"{self._name} started")

    def on_stop(self) -> None:
        self._journal.add(f"{self._name} stopped")

    def on_receive(self, message: Any) -> Any:
        raise message


class Tree:
    """A supervisor, called from the test's thread."""

    def __init__(self, ref: pykka.ActorRef[Any]) -> None:
        self.ref = ref

    def call(self, method: str, *args: Any) -> Any:
        return getattr(self.ref.proxy(), method)(*args).get(timeout=PATIENCE)

    def children(self) -> dict[str, ChildInfo]:
        return {child.id: child for child in self.call("which_children")}

    def restarts(self) -> dict[str, int]:
        return {child.id: child.restarts for child in self.call("which_children")}

    def kill(self, child_id: str) -> None:
        self.call("child", child_id).tell(ValueError("killed"))


@contextmanager
def tree(
    *children: ChildSpec, strategy: str = "one_for_one", max_restarts: int = 3, dynamic: bool = False
) -> Iterator[Tree]:
    """A supervisor for the duration of the block."""
    kind = DynamicSupervisorActor if dynamic else SupervisorActor
    flags: Any = {"strategy": strategy, "max_restarts": max_restarts}
    ref = kind.start("app", children, flags=SupervisorFlags(**flags))
    try:
        yield Tree(ref)
    finally:
        ref.stop()


def spec(conninfo: str = NOWHERE, **arguments: Any) -> ChildSpec:
    return pgflow.child_spec(conninfo, **{**QUICK, **arguments})


def began(starter: pgflow.Starter) -> datetime | None:
    """When the incarnation began that there is; None between two."""
    try:
        return starter.status().started_at
    except pgflow.StarterTerminated:
        return None


def await_next(starter: pgflow.Starter, before: datetime | None) -> None:
    """Wait for another incarnation than that of `before`."""
    eventually(lambda: began(starter) not in (None, before), what="the next incarnation")


def blocked(call: Callable[[], object]) -> tuple[threading.Thread, list[BaseException]]:
    """A thread that makes the call, and what it raised."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, errors


def family(journal: Journal, middle: ChildSpec) -> list[ChildSpec]:
    first, last = (ChildSpec(name, partial(Sibling.start, name, journal)) for name in ("first", "last"))
    return [first, middle, last]
