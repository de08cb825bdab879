"""The tables by name: each a generator of figures, on a server of its own where it needs one."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from benchmarks import (
    asking,
    awaiting,
    crashing,
    fast_lane,
    hanging,
    holding,
    importing,
    probing,
    recovering,
    starting,
    telling,
    throughput,
    working,
)
from benchmarks.figures import Figure
from benchmarks.peers import lanes
from benchmarks.plan import Plan
from benchmarks.server import FreshDatabase, databases


def on_a_server(measure: Callable[[FreshDatabase, Plan], Iterator[Figure]]) -> Callable[[Plan], Iterator[Figure]]:
    """The same with a server for as long as it takes."""

    def measured(plan: Plan) -> Iterator[Figure]:
        with databases() as fresh:
            yield from measure(fresh, plan)

    return measured


def _breaking(fresh: FreshDatabase, plan: Plan) -> Iterator[Figure]:
    yield crashing.answering(fresh, plan.outages)
    yield from hanging.measure(fresh, plan.outages)


def _recovering(plan: Plan) -> Iterator[Figure]:
    yield from crashing.enduring()
    yield from on_a_server(_breaking)(plan)
    yield from recovering.measure(plan.outages, long=plan.long)


LONG = ("fast-lane", "recovering", "probing")
"""Not among those that `make bench` measures in five minutes."""

TABLES: dict[str, Callable[[Plan], Iterator[Figure]]] = {
    "importing": importing.measure,
    "starting": on_a_server(starting.measure),
    "asking": on_a_server(asking.measure),
    "holding": on_a_server(holding.measure),
    "working": on_a_server(working.measure),
    "throughput": on_a_server(throughput.measure),
    "awaiting": on_a_server(awaiting.measure),
    "fast-lane": on_a_server(fast_lane.measure),
    "recovering": _recovering,
    "telling": lambda plan: telling.measure(plan.repetitions),
    "probing": lambda plan: probing.measure(plan.repetitions),
    "peers": on_a_server(lanes.measure),
}
