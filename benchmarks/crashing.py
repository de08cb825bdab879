"""Actors that crash: how soon they answer again, and what many crashes leave behind."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import psutil
import pykka

import pgflow_starter as pgflow
from benchmarks.figures import Figure
from benchmarks.server import FreshDatabase
from pgflow_starter.clock import SystemClock
from pgflow_starter.supervision import Actor, ChildSpec, SupervisorActor, SupervisorFlags
from pgflow_starter.supervision.tree import Tree

CRASHES = 20_000
WARM_UP = 1_000
PATIENCE = 10.0
APART = 1.8
"""Seconds between crashes of the starter's actor: no more often than its supervisor puts up with."""

_never = threading.Event()


class Deadly:
    """A message that kills: to show it is to exit."""

    def __repr__(self) -> str:
        raise SystemExit("killed by a message")


class Victim(Actor):
    """Is called by name, through a tree."""

    def __init__(self, tree: Tree) -> None:
        super().__init__()
        self._tree = tree

    def on_start(self) -> None:
        self._tree.enter("victim", self.actor_ref)

    def on_receive(self, message: Any) -> Any:
        raise message


def answering(fresh: FreshDatabase, repetitions: int) -> Figure:
    """The StarterActor is killed by a message; the next call over the proxy is answered by its successor."""
    values: list[float] = []
    with fresh() as conninfo, pgflow.start(conninfo) as starter:
        proxy = starter.proxy()
        proxy.status().get(timeout=PATIENCE)
        for _ in range(repetitions):
            (ref,) = pykka.ActorRegistry.get_by_class(pgflow.StarterActor)
            began = time.perf_counter()
            ref.tell(Deadly())
            proxy.status().get(timeout=PATIENCE)
            values.append((time.perf_counter() - began) * 1e3)
            _never.wait(APART)
    return Figure("actor crashed → restarted and answering", values, 50.0, "ms")


def enduring() -> Iterator[Figure]:
    """Crashes and restarts of one supervised actor, one after the other."""
    tree = Tree()
    flags = SupervisorFlags(max_restarts=CRASHES, max_seconds=0.1)
    top = SupervisorActor.start(
        "top", [ChildSpec("victim", partial(Victim.start, tree))], clock=SystemClock(), flags=flags
    )
    process = psutil.Process()
    try:
        _crash(tree, WARM_UP)
        gc.collect()
        rss, threads = process.memory_info().rss, threading.active_count()
        _crash(tree, CRASHES)
        gc.collect()
        grown = (process.memory_info().rss - rss) / 2**20
        more = threading.active_count() - threads
    finally:
        top.stop()
    yield Figure("20,000 crashes and restarts: RSS growth", [grown], 2.0, "MB")
    yield Figure("20,000 crashes and restarts: threads more", [more], 0, "")


def _crash(tree: Tree, times: int) -> None:
    ref = None
    for _ in range(times):
        ref = tree.await_other("victim", ref, PATIENCE)
        ref.tell(ValueError("crash"))
    tree.await_other("victim", ref, PATIENCE)
