"""From `start()` to ready, beside the same statements on plain psycopg connections.

The floor is the best of several numbers of threads, each with a connection of its own, which together do for all
modules what the phases do in the database: find out what is installed, create the flow, register its worker, enable
its notification, and LISTEN to all queues on one more connection. Connecting counts on both sides. Each repetition
has a fresh database, so all flows are created.
"""

from __future__ import annotations

import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any
from uuid import uuid4

import psycopg
from psycopg import sql

import pgflow_starter as pgflow
from benchmarks.server import FreshDatabase
from pgflow_starter.postgres import pgmq
from pgflow_starter.postgres.features import detect
from pgflow_starter.postgres.flows import REGISTER_WORKER, compile_flow

THREADS = (1, 2, 4, 10)
THROTTLE_MS = 250
HEADER = f"{'start → ready':<22} {'ours ms':>9} {'spread':>14} {'floor ms':>9} {'threads':>8} {'ratio':>6}"


@dataclass(frozen=True, slots=True)
class Row:
    """One figure: ours and the floor's repetitions in seconds, and how many threads the floor was best with."""

    strategy: str
    modules: int
    ours: list[float]
    floor: list[float]
    floor_threads: int

    @property
    def ratio(self) -> float:
        """Ours to the floor's, by medians."""
        return statistics.median(self.ours) / statistics.median(self.floor)

    def line(self) -> str:
        """The row of the table."""
        ours, floor = statistics.median(self.ours) * 1e3, statistics.median(self.floor) * 1e3
        spread = f"{min(self.ours) * 1e3:.0f} to {max(self.ours) * 1e3:.0f}"
        what = f"{self.strategy}, N = {self.modules}"
        return f"{what:<22} {ours:>9.1f} {spread:>14} {floor:>9.1f} {self.floor_threads:>8} {self.ratio:>6.2f}"

    def to_dict(self) -> dict[str, Any]:
        """As JSON-ready data."""
        return {**asdict(self), "ratio": self.ratio}


def measure(fresh: FreshDatabase, strategy: str, count: int, repetitions: int) -> Row:
    """Measure ours and each floor in turn, so that a drift of the machine meets all alike."""
    jobs = [pgflow.job(f"job_{i}")(_echo) for i in range(count)]
    ours: list[float] = []
    floors: dict[int, list[float]] = {n: [] for n in THREADS if n <= max(count, 1)}
    for _ in range(repetitions):
        with fresh() as conninfo:
            ours.append(_ours(conninfo, strategy, jobs))
        for threads, seconds in floors.items():
            with fresh() as conninfo:
                seconds.append(_floor(conninfo, strategy, jobs, threads))
    best = min(floors, key=lambda n: statistics.median(floors[n]))
    return Row(strategy, count, ours, floors[best], best)


def _echo(message: Any, ctx: pgflow.TaskContext) -> Any:
    return message


def _ours(conninfo: str, strategy: str, jobs: list[pgflow.Job]) -> float:
    began = time.perf_counter()
    starter = pgflow.start(conninfo, jobs=jobs, signal_strategy=strategy)
    try:
        starter.await_ready(timeout=120)
        seconds = time.perf_counter() - began
        if not all(m.status == "succeeded" for m in starter.status().modules):
            raise pgflow.PgflowError("a module failed")
    finally:
        starter.stop()
    return seconds


def _floor(conninfo: str, strategy: str, jobs: list[pgflow.Job], threads: int) -> float:
    def register(mine: list[pgflow.Job]) -> None:
        with psycopg.connect(conninfo, autocommit=True, prepare_threshold=None) as conn:
            for job in mine:
                compile_flow(conn, job.__pgflow_definition__())
                conn.execute(REGISTER_WORKER, (uuid4(), job.slug, job.slug))
                if strategy == "notify":
                    detect(conn)
                    pgmq.enable_notify(conn, job.slug, THROTTLE_MS)

    began = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(register, jobs[i::threads]) for i in range(threads)]:
            done.result()
    if strategy == "notify":
        with psycopg.connect(conninfo, autocommit=True) as conn:
            names = [sql.SQL("listen {}").format(sql.Identifier(pgmq.channel(job.slug))) for job in jobs]
            conn.execute(sql.SQL("; ").join(names))
    return time.perf_counter() - began
