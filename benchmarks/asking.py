"""How long questions take: idle, while starting, and beside threads that compute.

The handle's calls read a published snapshot, so their floor is a function call. A proxy's call goes to an actor and
back; its floor is the same call to a bare pykka actor over pykka's own proxy, asked by turns. Times are those of the
calls alone, each measured for itself.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pykka

import pgflow_starter as pgflow
from benchmarks.figures import Figure, percentile
from benchmarks.modules import jobs
from benchmarks.plan import Plan
from benchmarks.server import FreshDatabase

SAMPLES = 2_000
BUSY_THREADS = 4
PAUSE = 0.0005
"""Seconds between two questions while starting: nobody asks without end."""

PATIENCE = 240.0
_never = threading.Event()

Call = Callable[[], object]


def measure(fresh: FreshDatabase, plan: Plan) -> Iterator[Figure]:
    """Each figure as soon as it is known; the times of a call are one repetition each."""
    for count in (100, 1000):
        with fresh() as conninfo, pgflow.start(conninfo, jobs=jobs(count), signal_strategy="notify") as starter:
            starter.await_ready(PATIENCE)
            yield from _idle(starter, count, plan.repetitions)
            if count == 100:
                yield from _busy(starter, count, plan.samples)
    yield from _starting(fresh, plan.repetitions)


def _idle(starter: pgflow.Starter, count: int, repetitions: int) -> Iterator[Figure]:
    for name, call in _calls(starter, count):
        taken = [_sampled(call, SAMPLES) for _ in range(repetitions)]
        halves = [percentile(t, 50) * 1e6 for t in taken]
        target = 10.0 if name == "status()" else None
        yield Figure(f"{name}, idle, N = {count}", halves, target, "µs")
        yield Figure("  p99", [percentile(t, 99) * 1e6 for t in taken], None, "µs")
    yield from _beside_a_bare_one(starter, count, repetitions)


def _calls(starter: pgflow.Starter, count: int) -> list[tuple[str, Call]]:
    last = f"job_{count - 1}"
    proxy = starter.proxy()
    return [
        ("status()", starter.status),
        ("ready()", starter.ready),
        ("healthy()", starter.healthy),
        ("module_status()", lambda: starter.module_status(last)),
        ("proxy status()", lambda: proxy.status().get()),
        ("proxy ready()", lambda: proxy.ready().get()),
        ("proxy healthy()", lambda: proxy.healthy().get()),
        ("proxy module_status()", lambda: proxy.module_status(last).get()),
    ]


class Bare(pykka.ThreadingActor):
    """Answers with what it was given."""

    def __init__(self, answer: object) -> None:
        super().__init__()
        self._answer = answer

    def status(self) -> object:
        """The answer."""
        return self._answer


@contextmanager
def bare_proxy(answer: object) -> Iterator[Any]:
    """A bare pykka actor's proxy, for the duration of the block."""
    ref = Bare.start(answer)
    try:
        yield ref.proxy()
    finally:
        ref.stop()


def _beside_a_bare_one(starter: pgflow.Starter, count: int, repetitions: int) -> Iterator[Figure]:
    ours = starter.proxy()
    ratios = []
    with bare_proxy(starter.status()) as bare:
        for _ in range(repetitions):
            pairs = [
                (_seconds(lambda: ours.status().get()), _seconds(lambda: bare.status().get())) for _ in range(SAMPLES)
            ]
            ratios.append(statistics.median(p[0] for p in pairs) / statistics.median(p[1] for p in pairs))
    yield Figure(f"proxy status() beside a bare pykka proxy's, N = {count}", ratios, 1.5, "x")


def _busy(starter: pgflow.Starter, count: int, samples: int) -> Iterator[Figure]:
    with _computing(BUSY_THREADS):
        for name, call in _calls(starter, count):
            taken = _sampled(call, samples)
            yield Figure(f"{name}, {BUSY_THREADS} threads compute, N = {count}", _milliseconds(taken, 50), None, "ms")
            yield Figure("  p99", _milliseconds(taken, 99), None, "ms")
        proxy = starter.proxy()
        with bare_proxy(starter.status()) as bare:
            pairs = [
                (_seconds(lambda: proxy.status().get()), _seconds(lambda: bare.status().get())) for _ in range(samples)
            ]
        yield Figure("  by turns: proxy status()", _milliseconds([p[0] for p in pairs], 50), None, "ms")
        yield Figure("  by turns: a bare pykka proxy's", _milliseconds([p[1] for p in pairs], 50), None, "ms")


@contextmanager
def _computing(threads: int) -> Iterator[None]:
    ended = False

    def compute() -> None:
        value = 0
        while not ended:
            value = (value * 31 + 7) % 1_000_003

    running = [threading.Thread(target=compute) for _ in range(threads)]
    for thread in running:
        thread.start()
    try:
        yield
    finally:
        ended = True
        for thread in running:
            thread.join()


def _starting(fresh: FreshDatabase, repetitions: int) -> Iterator[Figure]:
    """All the questions that are asked until ready, of all starts together."""
    count = 100
    status: list[float] = []
    proxied: list[float] = []
    for _ in range(repetitions):
        with fresh() as conninfo, pgflow.start(conninfo, jobs=jobs(count), signal_strategy="notify") as starter:
            proxy = starter.proxy()
            while not starter.ready():
                status.append(_seconds(starter.status))
                proxied.append(_seconds(lambda: proxy.status().get()))  # noqa: B023 # asked at once
                _never.wait(PAUSE)
    for name, taken, target in (("status()", status, 1.0), ("proxy status()", proxied, None)):
        yield Figure(f"{name} while {count} modules start, p99", _milliseconds(taken, 99), target, "ms")
        yield Figure(f"{name} while {count} modules start, p50", _milliseconds(taken, 50), None, "ms")


def _milliseconds(taken: list[float], percent: int) -> list[float]:
    return [percentile(taken, percent) * 1e3]


def _sampled(call: Call, times: int) -> list[float]:
    return [_seconds(call) for _ in range(times)]


def _seconds(call: Call) -> float:
    asked = time.perf_counter()
    call()
    return time.perf_counter() - asked
