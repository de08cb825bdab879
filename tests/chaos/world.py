"""`World`: a database behind a proxy, and on it two starters and, where they shall be killed, worker processes."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo

import pgflow_starter as pgflow
from pgflow_starter.postgres.embedded.server import EmbeddedPostgres
from pgflow_starter.postgres.setup.install import install
from pgflow_starter.starter.runtime import Runtime
from tests.chaos import ticks
from tests.chaos.asks import Asks
from tests.chaos.backends import OURS, Backends
from tests.chaos.ledger import Ledger
from tests.chaos.modules import SETTINGS, modules
from tests.chaos.process import Process
from tests.support.databases import FAST, memory_folder
from tests.support.proxy import Proxy
from tests.support.starters import opened
from tests.support.waiting import eventually

CONNECTIONS = 40
SILENCE_MS = 3000
"""How long the starters let a peer be silent, in milliseconds."""

DBNAME = "chaos"
READY_WITHIN = 30.0
_never = threading.Event()


@dataclass(frozen=True, slots=True)
class World:
    """Everything that can be broken, and who is to bear it."""

    server: EmbeddedPostgres
    proxy: Proxy
    starters: tuple[pgflow.Starter, ...]
    runtimes: tuple[Runtime, ...]
    """Those of the starters."""
    names: tuple[str, ...]
    """Those of the starters, in the ledger."""
    processes: tuple[Process, ...]
    ledger: Ledger
    asks: Asks
    backends: Backends
    random: random.Random
    lives: bool
    """Whether runs are delayed, cancelled, done again, and ticks of a schedule."""

    def direct(self) -> psycopg.Connection[tuple[Any, ...]]:
        """A connection past the proxy."""
        return psycopg.connect(self.server.conninfo(DBNAME), autocommit=True)

    def hold(self, longest: float) -> None:
        """Leave things as they are, for `longest` seconds at most."""
        _never.wait(self.random.uniform(0, longest))


Fault = Callable[[World, float], None]
"""Breaks something, waits so many seconds at most, and mends it."""


@contextmanager
def server() -> Iterator[EmbeddedPostgres]:
    """A server to be broken."""
    settings = {**FAST, "max_connections": str(CONNECTIONS)}
    with EmbeddedPostgres(tcp=True, settings=settings, parent=memory_folder()) as running:
        yield running


@contextmanager
def world(
    running: EmbeddedPostgres, seed: int, processes: int = 0, pause: float = 0.05, *, lives: bool = False
) -> Iterator[World]:
    """A fresh database there, with two starters: one polls, one is notified. They are stopped at the end.

    And with so many worker processes, each with a sender that pauses so many seconds. With `lives` all of them have
    what `ticks` has.
    """
    with psycopg.connect(running.conninfo(), autocommit=True) as admin:
        admin.execute(f"drop database if exists {DBNAME} with (force)")
        admin.execute(f"create database {DBNAME}")
    install(running.conninfo(DBNAME))
    ledger = Ledger()
    with ExitStack() as stack:
        proxy = stack.enter_context(Proxy(running))
        backends = stack.enter_context(Backends(running.conninfo(DBNAME)))
        conninfo = proxy.conninfo(DBNAME, tcp_user_timeout=str(SILENCE_MS), connect_timeout="2")
        others: list[Process] = []
        for number in range(processes):
            process = Process(f"process {number + 1}", conninfo, ledger, seed + number, pause, lives=lives)
            stack.callback(process.close)
            others.append(process)
        opened_ones: list[tuple[pgflow.Starter, Runtime]] = []
        names = ("polling", "notify")
        settings = {**SETTINGS, **ticks.SETTINGS} if lives else SETTINGS
        for strategy in names:
            seen = partial(ledger.handled, by=strategy)
            flows, jobs = modules(seen, seed)
            jobs += ticks.jobs(seen) if lives else []
            named = make_conninfo(conninfo, application_name=f"{OURS}{strategy}")
            with_runtime = opened(named, flows=flows, jobs=jobs, signal_strategy=strategy, **settings)
            opened_ones.append(stack.enter_context(with_runtime))
        starters, runtimes = zip(*opened_ones, strict=True)
        for starter in starters:
            starter.await_ready(READY_WITHIN)
        eventually(lambda: all(p.ready for p in others), READY_WITHIN, "the processes' being ready")
        asks = Asks()
        yield World(
            running, proxy, starters, runtimes, names, tuple(others), ledger, asks, backends, random.Random(seed), lives
        )
