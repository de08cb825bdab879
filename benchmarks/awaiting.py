"""Async handlers beside plain ones: no-op jobs a second, by turns; and what a thousand that wait take.

Memory is that of a process with one such handler waiting, and how much more it is with a thousand.

    python -m benchmarks.awaiting CONNINFO SLEEPERS
"""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
from collections.abc import Iterator
from typing import Any

import psutil

import pgflow_starter as pgflow
from benchmarks.child import measured_by, tell
from benchmarks.figures import Figure
from benchmarks.modules import echo
from benchmarks.plan import Plan
from benchmarks.queued import await_end, queued, rate
from benchmarks.server import FreshDatabase

SLEEPERS = 1000
PATIENCE = 120.0
_never = threading.Event()


def measure(fresh: FreshDatabase, plan: Plan) -> Iterator[Figure]:
    """Each figure as soon as it is known."""
    plain, awaited = [], []
    for _ in range(plan.repetitions):
        plain.append(_rate(fresh, plan.jobs, echo))
        awaited.append(_rate(fresh, plan.jobs, awaited_echo))
    ratios = [p / a for p, a in zip(plain, awaited, strict=True)]
    yield Figure(f"{plan.jobs} no-op jobs, concurrency 10: plain to async", ratios, 1.3, "x")
    yield Figure("  plain", plain, None, "/s")
    yield Figure("  async", awaited, None, "/s")
    with fresh() as conninfo:
        told = measured_by("awaiting", conninfo, SLEEPERS)
    yield Figure(f"RSS for {SLEEPERS} coroutines that wait in one worker", [told["rss"] / 2**20], 60.0, "MB")
    yield Figure("  threads for them", [told["threads"]], None, "")


async def awaited_echo(message: Any, ctx: pgflow.TaskContext) -> Any:
    """The other no-op."""
    return message


def _rate(fresh: FreshDatabase, count: int, handler: Any) -> float:
    with queued(fresh, count) as (conninfo, job):
        same = pgflow.job(job.slug)(handler)
        with pgflow.start(conninfo, jobs=[same], signal_strategy="notify"):
            await_end(conninfo)
        return rate(conninfo)


def main() -> None:
    """Have so many wait, and tell what that takes."""
    conninfo, count = sys.argv[1], int(sys.argv[2])
    begun = threading.Semaphore(0)

    @pgflow.job("waits", timeout=3600)
    async def waits(message: Any, ctx: pgflow.TaskContext) -> None:
        begun.release()
        await asyncio.sleep(3600)

    settings: dict[str, Any] = {"max_concurrency": count, "batch_size": 100, "shutdown_timeout": 0.0}
    with pgflow.start(conninfo, jobs=[waits], signal_strategy="notify", **settings) as starter:
        starter.await_ready(PATIENCE)
        starter.client.enqueue(waits, 0)
        _await(begun, 1)
        gc.collect()
        rss, threads = psutil.Process().memory_info().rss, threading.active_count()
        starter.client.enqueue_many(waits, list(range(1, count)))
        _await(begun, count - 1)
        rss, threads = psutil.Process().memory_info().rss - rss, threading.active_count() - threads
    tell(rss=rss, threads=threads)


def _await(begun: threading.Semaphore, count: int) -> None:
    for _ in range(count):
        if not begun.acquire(timeout=PATIENCE):
            raise pgflow.PgflowError("some did not begin")


if __name__ == "__main__":
    main()
