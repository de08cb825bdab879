"""Tasks: how many a second and how soon, beside plain psycopg doing the same statements on the same server."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import psycopg

import pgflow_starter as pgflow
from benchmarks.figures import Figure, percentile
from benchmarks.floor import plain_listener, plain_worker
from benchmarks.modules import echo
from benchmarks.plan import Plan
from benchmarks.queued import await_end, queued, rate
from benchmarks.server import FreshDatabase
from pgflow_starter.postgres.stores import pgmq
from pgflow_starter.postgres.stores.flows import compile_flow

PIPELINED = 50
"""Tasks a round trip of the floor."""

WARM_UP = 30
GAP = 0.02
FLOWS = 50
PATIENCE = 120.0
_never = threading.Event()

_CONNECTIONS = "select count(*) from pg_stat_activity where application_name = 'pgflow_starter'"


def measure(fresh: FreshDatabase, plan: Plan) -> Iterator[Figure]:
    """Each figure as soon as it is known."""
    repetitions = plan.repetitions
    yield from _jobs(fresh, repetitions, plan.jobs)
    yield from _latency(fresh, repetitions, plan.samples)
    yield _three_steps(fresh, repetitions)
    yield _map(fresh, repetitions)
    yield _failing(fresh, repetitions)
    yield from _idle(fresh, plan.idle_seconds)
    yield _memory(fresh)


def _jobs(fresh: FreshDatabase, repetitions: int, count: int) -> Iterator[Figure]:
    ours, floor = [], []
    for _ in range(repetitions):
        with queued(fresh, count) as (conninfo, job):
            with plain_worker(conninfo, job.slug) as worker:
                worker.drain(PIPELINED)
            floor.append(rate(conninfo))
        with queued(fresh, count) as (conninfo, job):
            with pgflow.start(conninfo, jobs=[job], signal_strategy="notify"):
                await_end(conninfo)
            ours.append(rate(conninfo))
    enough = min(2000.0, 2000 / 2200 * statistics.median(floor))
    yield Figure(f"{count} queued no-op jobs, one process, concurrency 10", ours, round(enough), "/s", at_least=True)
    yield Figure(
        "the same beside the floor", [o / f for o, f in zip(ours, floor, strict=True)], 0.9, "x", at_least=True
    )
    yield Figure("the floor: claimed and completed by 50, pipelined", floor, None, "/s")


def _latency(fresh: FreshDatabase, repetitions: int, samples: int) -> Iterator[Figure]:
    taken = [_latencies(fresh, samples) for _ in range(repetitions)]
    for percent in (50, 99):
        ratios = [percentile(ours, percent) / percentile(floor, percent) for ours, floor in taken]
        yield Figure(f"enqueue → handler, idle, throttle 0, p{percent}: to SQL + LISTEN", ratios, 1.2, "x")
    for percent in (50, 99):
        yield Figure(f"  in ms, p{percent}", [percentile(ours, percent) * 1e3 for ours, _ in taken], None, "ms")


def _latencies(fresh: FreshDatabase, samples: int) -> tuple[list[float], list[float]]:
    """Ours and the floor's, by turns: both shall have the same machine. From a thread, as in a threaded service."""
    told = _Told()

    @pgflow.job("noop")
    def job(message: Any, ctx: pgflow.TaskContext) -> Any:
        told()
        return message

    with ExitStack() as stack:
        conninfo = stack.enter_context(fresh())
        starter = stack.enter_context(pgflow.start(conninfo, jobs=[job], signal_strategy="notify", notify_throttle=0))
        starter.await_ready(PATIENCE)
        plain = stack.enter_context(fresh())
        with psycopg.connect(plain, autocommit=True) as conn:
            compile_flow(conn, job.__pgflow_definition__())
            pgmq.enable_notify(conn, job.slug, 0)
        stack.enter_context(plain_listener(plain, job.slug, told))
        sender = stack.enter_context(plain_worker(plain, job.slug))

        def by_turns() -> tuple[float, float]:
            return told.after(lambda: starter.client.enqueue(job, 1)), told.after(lambda: sender.start("1"))

        with ThreadPoolExecutor(1) as thread:
            pairs = thread.submit(lambda: [by_turns() for _ in range(WARM_UP + samples)]).result()[WARM_UP:]
    return [ours for ours, _ in pairs], [floor for _, floor in pairs]


class _Told:
    """When a handler began."""

    def __init__(self) -> None:
        self._begun = threading.Event()
        self._at = 0.0

    def __call__(self) -> None:
        self._at = time.perf_counter()
        self._begun.set()

    def after(self, send: Callable[[], object]) -> float:
        """Seconds from the call to the handler's begin; then some time in which nothing happens."""
        self._begun.clear()
        asked = time.perf_counter()
        send()
        if not self._begun.wait(PATIENCE):
            raise pgflow.PgflowError("no handler began")
        _never.wait(GAP)
        return self._at - asked


def _three_steps(fresh: FreshDatabase, repetitions: int) -> Figure:
    flow = pgflow.Flow("three")
    flow.step(slug="one")(echo)
    flow.step(slug="two", depends_on=["one"])(echo)
    flow.step(slug="three", depends_on=["two"])(echo)
    ratios = []
    for _ in range(repetitions):
        ours, floor = [], []
        with fresh() as conninfo, pgflow.start(conninfo, flows=[flow], signal_strategy="notify") as starter:
            starter.await_ready(PATIENCE)
            for _ in range(FLOWS):
                began = time.perf_counter()
                starter.client.start_flow(flow, 1).wait(PATIENCE)
                ours.append(time.perf_counter() - began)
                _never.wait(GAP)
        with fresh() as conninfo, psycopg.connect(conninfo, autocommit=True) as conn:
            compile_flow(conn, flow.__pgflow_definition__())
            with plain_worker(conninfo, flow.slug) as worker:
                for _ in range(FLOWS):
                    began = time.perf_counter()
                    run_id = worker.start("1")
                    for _ in range(3):
                        worker.complete(worker.claim(10))
                    assert worker.run(run_id)[0] == "completed"
                    floor.append(time.perf_counter() - began)
                    _never.wait(GAP)
        ratios.append(statistics.median(ours) / statistics.median(floor))
    return Figure("a flow of 3 steps, start → completed, idle: to its statements", ratios, 1.3, "x")


def _map(fresh: FreshDatabase, repetitions: int) -> Figure:
    """How the time of a task grows with the map, beyond how the statements' own does."""
    values = []
    for _ in range(repetitions):
        ours = {n: _mapped(fresh, n, _map_of_ours) / n for n in (100, 1000)}
        floor = {n: _mapped(fresh, n, _map_of_floor) / n for n in (100, 1000)}
        values.append(ours[1000] / ours[100] / (floor[1000] / floor[100]))
    return Figure("a map of 1,000: a task's time to that in one of 100, beyond the SQL's own", values, 1.3, "x")


def _mapped(fresh: FreshDatabase, count: int, run: Callable[[str, pgflow.Flow, str], float]) -> float:
    flow = pgflow.Flow("mapped")
    flow.map(slug="each")(echo)
    with fresh() as conninfo:
        return run(conninfo, flow, str(list(range(count))))


def _map_of_ours(conninfo: str, flow: pgflow.Flow, text: str) -> float:
    with pgflow.start(conninfo, flows=[flow], signal_strategy="notify") as starter:
        starter.await_ready(PATIENCE)
        began = time.perf_counter()
        starter.client.start_flow(flow, [*range(text.count(",") + 1)]).wait(PATIENCE)
        return time.perf_counter() - began


def _map_of_floor(conninfo: str, flow: pgflow.Flow, text: str) -> float:
    with psycopg.connect(conninfo, autocommit=True) as conn:
        compile_flow(conn, flow.__pgflow_definition__())
    with plain_worker(conninfo, flow.slug) as worker:
        began = time.perf_counter()
        worker.start(text)
        worker.drain(PIPELINED)
        return time.perf_counter() - began


def _failing(fresh: FreshDatabase, repetitions: int) -> Figure:
    """Each second element fails once, and is tried again at once."""
    count = 1000
    values = []
    for _ in range(repetitions):
        flow = pgflow.Flow("failing", base_delay=0, max_concurrency=8)

        @flow.map()
        def each(item: int, ctx: pgflow.TaskContext) -> int:
            if item % 2 and ctx.attempt == 1:
                raise ValueError(item)
            return item

        with fresh() as conninfo, pgflow.start(conninfo, flows=[flow], signal_strategy="notify") as starter:
            starter.await_ready(PATIENCE)
            began = time.perf_counter()
            run = starter.client.start_flow(flow, [*range(count)]).wait(PATIENCE)
            assert run.status == "completed", run
            values.append(count * 1.5 / (time.perf_counter() - began))
    return Figure("half of the tasks failing once, 8 slots, one run: attempts", values, 600, "/s", at_least=True)


def _idle(fresh: FreshDatabase, seconds: float) -> Iterator[Figure]:
    jobs = [pgflow.job(f"job_{i}")(echo) for i in range(100)]
    with fresh() as conninfo, pgflow.start(conninfo, jobs=jobs, signal_strategy="notify") as starter:
        starter.await_ready(PATIENCE)
        _never.wait(1.0)
        began = time.process_time()
        _never.wait(seconds)
        share = (time.process_time() - began) / seconds * 100
        with psycopg.connect(conninfo) as conn:
            row: Any = conn.execute(_CONNECTIONS).fetchone()
    yield Figure("100 idle workers, notify: of a core", [share], 0.5, "%")
    yield Figure("100 idle workers, notify: connections", [row[0]], 12, "")


_ONE_WORKER = """
import sys, psutil, pgflow_starter as pgflow
job = pgflow.job("noop")(lambda message, ctx: message)
with pgflow.start(sys.argv[1], jobs=[job], signal_strategy="notify") as starter:
    starter.await_ready(60)
    for run in [starter.client.enqueue(job, i) for i in range(200)]:
        run.wait(60)
    print(psutil.Process().memory_info().rss / 2**20)
"""


def _memory(fresh: FreshDatabase) -> Figure:
    with fresh() as conninfo:
        command = [sys.executable, "-c", _ONE_WORKER, conninfo]
        told = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ}).stdout
    return Figure("RSS of a process with one worker, after 200 jobs", [float(told)], 45, "MB")
