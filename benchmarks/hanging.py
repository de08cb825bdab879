"""One module of a hundred hangs: what that costs the others."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import pgflow_starter as pgflow
from benchmarks.figures import Figure
from benchmarks.server import FreshDatabase
from pgflow_starter.postgres.setup.admin import queue_lock

MODULES = 100
HANGS = 5.0
PATIENCE = 60.0

_never = threading.Event()


def measure(fresh: FreshDatabase, repetitions: int) -> Iterator[Figure]:
    """How much later the other 99 are ready, in percent; all three cases in turn, so that a drift meets all alike."""
    plain: list[float] = []
    definition: list[float] = []
    locked: list[float] = []
    for _ in range(repetitions):
        plain.append(_others_ready(fresh, _job(0)))
        with _hanging() as module:
            definition.append(_others_ready(fresh, module))
        locked.append(_others_ready(fresh, _job(0), locked=True))
    base = statistics.median(plain)
    for name, seconds in (("a definition that hangs", definition), ("a queue's lock that is held", locked)):
        delays = [(value / base - 1) * 100 for value in seconds]
        yield Figure(f"{name} for 5 s, one of 100: delay of the others", delays, 10.0, "%")


def _others_ready(fresh: FreshDatabase, first: Any, *, locked: bool = False) -> float:
    others = [_job(i) for i in range(1, MODULES)]
    with ExitStack() as stack:
        conninfo = stack.enter_context(fresh())
        held: AbstractContextManager[Any] = queue_lock(conninfo, "job_0") if locked else nullcontext()
        stack.enter_context(held)
        began = time.monotonic()
        with pgflow.start(conninfo, jobs=[first, *others], signal_strategy="notify") as starter:
            while not all(m.status == "succeeded" for m in starter.status().modules[1:]):
                if _never.wait(0.001) or time.monotonic() - began > PATIENCE:
                    raise pgflow.PgflowError("the others were never ready")
            return time.monotonic() - began


def _job(number: int) -> pgflow.Job:
    @pgflow.job(f"job_{number}")
    def job(message: Any, ctx: pgflow.TaskContext) -> Any:
        return message

    return job


@contextmanager
def _hanging() -> Iterator[Any]:
    released = threading.Event()

    class Hanging:
        @staticmethod
        def __pgflow_definition__() -> pgflow.FlowDefinition:
            released.wait(HANGS)
            return _job(0).__pgflow_definition__()

    try:
        yield Hanging
    finally:
        released.set()
