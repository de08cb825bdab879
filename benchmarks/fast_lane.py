"""What the fast lane gains: beside the core's functions on the same server by turns, and as queues and maps grow.

The core's functions are called by the floor: plain psycopg, one connection, batches of 50, pipelined.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

import pgflow_starter as pgflow
from benchmarks.figures import Figure
from benchmarks.floor import plain_worker
from benchmarks.modules import echo
from benchmarks.plan import Plan
from benchmarks.queued import await_end, rate
from benchmarks.server import FreshDatabase
from pgflow_starter.postgres.stores.flows import compile_flow

BATCH = 50
SHARE = 5
"""Of a long queue, the first and the last part of so many are compared."""

# Once for each number: what does not look at it is called once for all.
_START = (
    "select count(*) from generate_series(1, %s) i, lateral pgflow.start_flow(%s, case when i > 0 then %s::jsonb end)"
)
_FIRST_AND_LAST = """
with done as (
    select completed_at, ntile(%s) over (order by completed_at) as part
    from pgflow.step_tasks where status = 'completed'
)
select part, count(*) / extract(epoch from max(completed_at) - min(completed_at)) from done group by part order by part
"""
_WORKER = """
import sys, pgflow_starter as pgflow
job = pgflow.job("noop")(lambda message, ctx: message)
with pgflow.start(sys.argv[1], jobs=[job], signal_strategy="notify") as starter:
    print("ready", flush=True)
    sys.stdin.read()
"""


def measure(fresh: FreshDatabase, plan: Plan) -> Iterator[Figure]:
    """Each figure as soon as it is known."""
    jobs = plan.jobs
    job, three = pgflow.job("noop")(echo), _three_steps()
    root, dependent = _root_map(), _dependent_map()
    array, ones = json.dumps([0] * 1000), jobs // 3
    for what, module, runs, text, enough in (
        (f"{jobs} queued jobs", job, jobs, "1", 3.0),
        (f"{ones} queued flows of 3 steps", three, ones, "1", 2.5),
        ("a root map of 1,000", root, 1, array, 4.0),
        ("a dependent map of 1,000", dependent, 1, "1000", 8.0),
    ):
        ours, off, floor = [], [], []
        for _ in range(plan.repetitions):
            floor.append(_floor(fresh, module, runs, text))
            ours.append(_ours(fresh, module, runs, text))
            off.append(_ours(fresh, module, runs, text, fast_lane="off"))
        yield Figure(f"{what}, tasks: a worker", ours, None, "/s")
        ratios = [o / f for o, f in zip(ours, floor, strict=True)]
        yield Figure("  to the core's functions, batches of 50, one connection", ratios, enough, "x", at_least=True)
        yield Figure("  to a worker with fast_lane='off'", [a / b for a, b in zip(ours, off, strict=True)], None, "x")
    yield _bigger(fresh, plan, root)
    yield from _together(fresh, plan, job)
    yield from _long_queue(fresh, plan, job)


def _three_steps() -> pgflow.Flow:
    flow = pgflow.Flow("three")
    flow.step(slug="one")(echo)
    flow.step(slug="two", depends_on=["one"])(echo)
    flow.step(slug="three", depends_on=["two"])(echo)
    return flow


def _root_map() -> pgflow.Flow:
    flow = pgflow.Flow("mapped")
    flow.map(slug="each")(echo)
    return flow


def _dependent_map() -> pgflow.Flow:
    flow = pgflow.Flow("spread")

    @flow.step()
    def numbers(count: int, ctx: pgflow.TaskContext) -> list[int]:
        return list(range(count))

    flow.map(slug="each", array="numbers")(echo)
    return flow


@contextmanager
def _waiting(fresh: FreshDatabase, module: Any, runs: int, text: str) -> Iterator[str]:
    """A fresh database in which so many runs have been started."""
    with fresh() as conninfo:
        with psycopg.connect(conninfo, autocommit=True) as conn:
            compile_flow(conn, module.__pgflow_definition__())
            conn.execute(_START, (runs, module.slug, text))
            conn.execute("vacuum analyze")
        yield conninfo


def _floor(fresh: FreshDatabase, module: Any, runs: int, text: str) -> float:
    """Tasks a second by the core's functions."""

    def output(task: Any) -> str:
        return json.dumps(list(range(int(text)))) if task[1] == "numbers" else "1"

    with _waiting(fresh, module, runs, text) as conninfo:
        with plain_worker(conninfo, module.slug) as worker:
            worker.drain(BATCH, output)
        return rate(conninfo)


def _ours(fresh: FreshDatabase, module: Any, runs: int, text: str, **options: Any) -> float:
    """Tasks a second of a worker of ten."""
    with _waiting(fresh, module, runs, text) as conninfo:
        modules: dict[str, Any] = {"jobs" if isinstance(module, pgflow.Job) else "flows": [module]}
        with pgflow.start(conninfo, **modules, signal_strategy="notify", **options):
            await_end(conninfo)
        return rate(conninfo)


def _bigger(fresh: FreshDatabase, plan: Plan, root: pgflow.Flow) -> Figure:
    ratios = []
    for _ in range(plan.repetitions):
        seconds = {n: 1 / _ours(fresh, root, 1, json.dumps([0] * n)) for n in (1_000, 10_000)}
        ratios.append(seconds[10_000] / seconds[1_000])
    return Figure("a map of 10,000: a task's time to that in one of 1,000", ratios, 1.3, "x")


def _together(fresh: FreshDatabase, plan: Plan, job: pgflow.Job) -> Iterator[Figure]:
    """Worker processes on one queue, all of them ready before it is filled."""
    rates: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(plan.repetitions):
        for count, found in rates.items():
            with fresh() as conninfo:
                with psycopg.connect(conninfo, autocommit=True) as conn:
                    compile_flow(conn, job.__pgflow_definition__())
                workers = [_worker(conninfo) for _ in range(count)]
                with pgflow.PgflowClient(conninfo) as client:
                    client.enqueue_many(job, range(plan.jobs))
                await_end(conninfo)
                found.append(rate(conninfo))
                for worker in workers:
                    worker.communicate("")
    ratios = [two / one for one, two in zip(rates[1], rates[2], strict=True)]
    yield Figure(f"{plan.jobs} jobs: two worker processes to one", ratios, 1.5, "x", at_least=True)


def _worker(conninfo: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _WORKER, conninfo]
    worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ})
    assert worker.stdout is not None
    worker.stdout.readline()
    return worker


def _long_queue(fresh: FreshDatabase, plan: Plan, job: pgflow.Job) -> Iterator[Figure]:
    """Twenty times as many jobs as elsewhere, all of them there before the worker is."""
    count = 20 * plan.jobs
    ratios, seconds = [], []
    for _ in range(plan.repetitions):
        with fresh() as conninfo:
            with pgflow.PgflowClient(conninfo) as client:
                client.enqueue(job)  # compiles the job
                began = time.perf_counter()
                for _ in range(20):
                    client.enqueue_many(job, range(plan.jobs))
                seconds.append((time.perf_counter() - began) / 20)
            with pgflow.start(conninfo, jobs=[job], signal_strategy="notify"):
                await_end(conninfo)
            with psycopg.connect(conninfo) as conn:
                rates = [float(row[1]) for row in conn.execute(_FIRST_AND_LAST, (SHARE,)).fetchall()]
        ratios.append(rates[-1] / rates[0])
    yield Figure(f"{count} queued jobs: the last fifth's rate to the first's", ratios, 0.95, "x", at_least=True)
    yield Figure(f"  enqueue_many of {plan.jobs}: jobs", [plan.jobs / statistics.median(seconds)], None, "/s")
