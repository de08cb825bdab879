"""What ready modules take: memory, threads, processor time, and how late their timers are.

Memory and threads are those of a process that holds 1,000 modules less those of one that holds a single one, for 999
modules. Processor time is counted from some seconds after ready, when threads that were needed to start have ended,
over ten seconds without messages: our process's, and that of all PostgreSQL's processes. A timer's floor is a bare
wait on a condition for the same time.

    python -m benchmarks.holding CONNINFO STRATEGY MODULES SECONDS POSTMASTER
"""

from __future__ import annotations

import gc
import sys
import threading
import time
from collections.abc import Iterator

import psutil

import pgflow_starter as pgflow
from benchmarks.child import measured_by, tell
from benchmarks.figures import Figure, percentile
from benchmarks.modules import jobs
from benchmarks.plan import Plan
from benchmarks.server import FreshDatabase, postmaster, processor_time
from pgflow_starter.clock import SystemClock
from pgflow_starter.threads.timers import TimerThread

MODULES = 1000
SETTLE = 6.0
"""Seconds after ready: idle threads end after five."""

TIMERS = 1000
SPREAD = 2.0
PATIENCE = 240.0
_never = threading.Event()


def measure(fresh: FreshDatabase, plan: Plan) -> Iterator[Figure]:
    """Each figure as soon as it is known."""
    with fresh() as conninfo:
        pid = postmaster(conninfo).pid
        for strategy in ("notify", "polling"):
            one = measured_by("holding", conninfo, strategy, 1, 0, pid)
            hundred = measured_by("holding", conninfo, strategy, 100, plan.idle_seconds, pid)
            yield from _idle(strategy, 100, hundred)
            many = measured_by("holding", conninfo, strategy, MODULES, plan.idle_seconds, pid)
            yield from _idle(strategy, MODULES, many)
            kilobytes = (many["rss"] - one["rss"]) / (MODULES - 1) / 1024
            threads = (many["threads"] - one["threads"]) / (MODULES - 1)
            yield Figure(f"RSS for a module, {MODULES} ready, {strategy}", [kilobytes], 60.0, "KB")
            yield Figure(f"threads for a module, {MODULES} ready, {strategy}", [threads], None, "")
            yield Figure(f"most threads while {MODULES} start, {strategy}", [many["most_threads"]], None, "")
            yield Figure("  peak memory of the process", [many["peak_mb"]], None, "MB")
    yield from _lateness(plan.outages)


def _idle(strategy: str, count: int, told: dict[str, float]) -> Iterator[Figure]:
    target = 0.5 if (strategy, count) == ("notify", 100) else None
    yield Figure(f"{count} idle modules, {strategy}: of a core", [told["ours"]], target, "%")
    yield Figure("  PostgreSQL's part of a core", [told["server"]], None, "%")


def _lateness(repetitions: int) -> Iterator[Figure]:
    ours, floor = [], []
    for _ in range(repetitions):
        ours.append(_timers_late())
        floor.append(_waits_late())
    for percent in (50, 99):
        yield Figure(f"a timer is late by, p{percent}", [percentile(v, percent) * 1e3 for v in ours], None, "ms")
        yield Figure(f"  a bare wait, p{percent}", [percentile(v, percent) * 1e3 for v in floor], None, "ms")


def _timers_late() -> list[float]:
    late: list[float] = []
    done = threading.Event()
    clock = SystemClock()
    timers = TimerThread(clock)
    for i in range(TIMERS):
        delay = SPREAD * (i + 1) / TIMERS
        due = clock.monotonic() + delay

        def call(due: float = due) -> None:
            late.append(clock.monotonic() - due)
            if len(late) == TIMERS:
                done.set()

        timers.after(delay, call)
    done.wait(PATIENCE)
    timers.close()
    return late


def _waits_late() -> list[float]:
    late: list[float] = []
    condition = threading.Condition()
    with condition:
        for _ in range(TIMERS):
            due = time.monotonic() + SPREAD / TIMERS
            condition.wait(SPREAD / TIMERS)
            late.append(time.monotonic() - due)
    return late


def main() -> None:
    """Hold the modules, and tell what that takes."""
    conninfo, strategy, count, seconds, pid = sys.argv[1:]
    server = psutil.Process(int(pid))
    with pgflow.start(conninfo, jobs=jobs(int(count)), signal_strategy=pgflow.SignalStrategy(strategy)) as starter:
        most = 0
        while not starter.ready():
            most = max(most, threading.active_count())
            _never.wait(0.005)
        _never.wait(SETTLE)
        gc.collect()
        figures = {"rss": psutil.Process().memory_info().rss, "threads": threading.active_count(), "most_threads": most}
        ours, theirs = time.process_time(), processor_time(server)
        period = max(float(seconds), 0.1)
        _never.wait(period)
        ours, theirs = time.process_time() - ours, processor_time(server) - theirs
        tell(**figures, ours=ours / period * 100, server=theirs / period * 100)


if __name__ == "__main__":
    main()
