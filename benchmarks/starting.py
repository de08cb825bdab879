"""From `start()` to ready, beside the floor that `registering` is.

Cold is a fresh database each time, so flows and queues are created and notifications enabled; warm is a process that
is started again on the same database. Each start is a process of its own, whose imports do not count; the floor is the
best of several numbers of threads, by medians. Ours and the floor take turns: a drift of the machine meets both.
The original, an Elixir program measured on another day, found its flows there, as ours does when warm.

    python -m benchmarks.starting CONNINFO STRATEGY MODULES
"""

from __future__ import annotations

import gc
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, nullcontext

import pgflow_starter as pgflow
from benchmarks.child import measured_by, tell
from benchmarks.figures import Figure
from benchmarks.modules import jobs
from benchmarks.plan import Plan
from benchmarks.server import FreshDatabase

TARGET = 1.6
PATIENCE = 240.0
ORIGINAL = {
    ("notify", 1): 6.8,
    ("notify", 10): 24.0,
    ("notify", 100): 145.0,
    ("notify", 1000): 1447.0,
    ("polling", 1): 2.8,
    ("polling", 10): 8.6,
    ("polling", 100): 60.0,
    ("polling", 1000): 562.0,
}
"""Its milliseconds."""

Database = Callable[[], AbstractContextManager[str]]


def measure(fresh: FreshDatabase, plan: Plan) -> Iterator[Figure]:
    """Each figure as soon as it is known."""
    for strategy in ("polling", "notify"):
        for count in plan.cold:
            yield from _compared(fresh, "cold", strategy, count, plan)
        for count in plan.warm:
            with ExitStack() as stack:
                conninfo = stack.enter_context(fresh())
                measured_by("starting", conninfo, strategy, count)
                same: Database = lambda: nullcontext(conninfo)  # noqa: E731, B023 # used before the next one
                yield from _compared(same, "warm", strategy, count, plan)


def _compared(database: Database, how: str, strategy: str, count: int, plan: Plan) -> Iterator[Figure]:
    ours: list[dict[str, float]] = []
    floors: dict[int, list[float]] = {n: [] for n in plan.threads if n <= count}
    for _ in range(plan.repetitions):
        with database() as conninfo:
            ours.append(measured_by("starting", conninfo, strategy, count))
        for threads, seconds in floors.items():
            with database() as conninfo:
                seconds.append(measured_by("registering", conninfo, strategy, count, threads)["seconds"])
    best = min(floors, key=lambda n: statistics.median(floors[n]))
    what = f"{strategy}, {how}, N = {count}"
    times = [o["seconds"] for o in ours]
    floor = statistics.median(floors[best])
    target = TARGET if count >= 100 else None
    yield Figure(f"{what}: beside the floor", [t / floor for t in times], target, "x")
    original = ORIGINAL[strategy, count] if how == "warm" and count >= 100 else None
    yield Figure(f"{what}: ready after", [t * 1e3 for t in times], original, "ms", series=f"{strategy}, {how}", x=count)
    yield Figure(
        f"{what}: the floor, {best} threads",
        [t * 1e3 for t in floors[best]],
        None,
        "ms",
        series=f"floor of {strategy}, {how}",
        x=count,
    )
    if count >= 100:
        yield Figure(f"{what}: CPU of the process", [o["cpu"] for o in ours], None, "s")
        yield Figure(f"{what}: its peak memory", [o["peak_mb"] for o in ours], None, "MB")


def main() -> None:
    """Start, await ready, and tell the seconds."""
    conninfo, strategy, count = sys.argv[1:]
    modules = jobs(int(count))
    start = pgflow.start  # which loads the starter
    gc.collect()
    gc.freeze()  # else a collection of what the imports made, 25 ms, falls into one start and not into another
    began = time.perf_counter()
    with start(conninfo, jobs=modules, signal_strategy=pgflow.SignalStrategy(strategy)) as starter:
        starter.await_ready(timeout=PATIENCE)
        seconds = time.perf_counter() - began
        assert all(m.status == "succeeded" for m in starter.status().modules)
        tell(seconds=seconds)


if __name__ == "__main__":
    main()
