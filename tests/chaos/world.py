"""`World`: a database behind a proxy, two starters on it, and what they work at."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg

import pgflow_starter as pgflow
from pgflow_starter.postgres.embedded import EmbeddedPostgres
from pgflow_starter.postgres.install import install
from tests.chaos.ledger import Ledger
from tests.support.databases import FAST, memory_folder
from tests.support.proxy import Proxy

CONNECTIONS = 40
SETTINGS: dict[str, Any] = {
    "backoff": pgflow.Backoff(base=0.1, maximum=2.0, jitter=0.2),
    "min_poll_interval": 0.2,
    "max_poll_interval": 1.0,
    "notify_fallback_interval": 5.0,
    "heartbeat_interval": 2.0,
    "recovery_interval": 3.0,
    "stale_threshold": 30.0,
    "phase_timeout": 5.0,
    "shutdown_timeout": 10.0,
    "pool_size": 5,
}
SILENCE_MS = 3000
"""How long the starters let a peer be silent, in milliseconds."""

DBNAME = "chaos"


@dataclass(frozen=True, slots=True)
class World:
    """Everything that can be broken, and who is to bear it."""

    server: EmbeddedPostgres
    proxy: Proxy
    starters: tuple[pgflow.Starter, ...]
    ledger: Ledger
    random: random.Random

    def direct(self) -> psycopg.Connection[tuple[Any, ...]]:
        """A connection past the proxy."""
        return psycopg.connect(self.server.conninfo(DBNAME), autocommit=True)


def modules(ledger: Ledger, seed: int) -> tuple[list[pgflow.Flow], list[pgflow.Job]]:
    """A flow with a map, a job that is done at once, and one that takes its time."""
    flow = pgflow.Flow("chaos_flow", base_delay=1)
    noise = random.Random(seed)

    def seen(ctx: pgflow.TaskContext) -> None:
        ledger.handled((ctx.run_id, ctx.step_slug, ctx.task_index))

    @flow.step()
    def split(order: Any, ctx: pgflow.TaskContext) -> list[int]:
        seen(ctx)
        return [order, order + 1, order + 2]

    @flow.map(array="split")
    def double(item: Any, ctx: pgflow.TaskContext) -> int:
        seen(ctx)
        return int(item) * 2

    @flow.step(depends_on=["double"])
    def total(deps: Any, ctx: pgflow.TaskContext) -> int:
        seen(ctx)
        return sum(deps["double"])

    @pgflow.job("chaos_quick", base_delay=1)
    def quick(message: Any, ctx: pgflow.TaskContext) -> Any:
        seen(ctx)
        return message

    @pgflow.job("chaos_slow", base_delay=1)
    def slow(message: Any, ctx: pgflow.TaskContext) -> Any:
        seen(ctx)
        ctx.cancelled.wait(noise.uniform(0.02, 0.3))
        return message

    return [flow], [quick, slow]


@contextmanager
def server() -> Iterator[EmbeddedPostgres]:
    """A server to be broken."""
    settings = {**FAST, "max_connections": str(CONNECTIONS)}
    with EmbeddedPostgres(tcp=True, settings=settings, parent=memory_folder()) as running:
        yield running


@contextmanager
def world(running: EmbeddedPostgres, seed: int) -> Iterator[World]:
    """A fresh database there, with two starters: one polls, one is notified. They are stopped at the end."""
    with psycopg.connect(running.conninfo(), autocommit=True) as admin:
        admin.execute(f"drop database if exists {DBNAME} with (force)")
        admin.execute(f"create database {DBNAME}")
    install(running.conninfo(DBNAME))
    ledger = Ledger()
    with ExitStack() as stack:
        proxy = stack.enter_context(Proxy(running))
        conninfo = proxy.conninfo(DBNAME, tcp_user_timeout=str(SILENCE_MS), connect_timeout="2")
        starters: list[pgflow.Starter] = []
        for strategy in ("polling", "notify"):
            flows, jobs = modules(ledger, seed)
            starter = pgflow.start(conninfo, flows=flows, jobs=jobs, signal_strategy=strategy, **SETTINGS)
            stack.callback(starter.stop)
            starters.append(starter)
        for starter in starters:
            starter.await_ready(30)
        yield World(running, proxy, tuple(starters), ledger, random.Random(seed))
