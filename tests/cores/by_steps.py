"""A flow that another runtime compiled with a queue for each of its steps, and the same flow here."""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

from psycopg.types.json import Jsonb

import pgflow_starter as pgflow
from tests.cores.stand_in import Admin

SLUG = "shop"
STEPS = ("lines", "price", "total")
OPTIONS = {"maxAttempts": 2, "baseDelay": 0, "timeout": 30}
QUEUES = tuple(f"{SLUG}__{step}" for step in STEPS)


class Shop(NamedTuple):
    """The flow, and how often each of its handlers was called."""

    flow: pgflow.Flow
    calls: Counter[str]


def shop(**of_price: Any) -> Shop:
    """A step, a map over it that fails once, a step on that."""
    flow, calls = pgflow.Flow(SLUG, max_attempts=2, base_delay=0, timeout=30), Counter[str]()

    @flow.step()
    def lines(given: Any, ctx: pgflow.TaskContext) -> Any:
        calls["lines"] += 1
        return given

    @flow.map(array="lines", **of_price)
    def price(line: int, ctx: pgflow.TaskContext) -> int:
        calls["price"] += 1
        if ctx.attempt == 1 and line == 1:
            raise OSError("the first attempt always fails")
        return line * 2

    @flow.step(depends_on=["price"])
    def total(deps: Any, ctx: pgflow.TaskContext) -> Any:
        calls["total"] += 1
        return sum(deps["price"])

    return Shop(flow, calls)


def compiled(admin: Admin, mode: str = "step") -> object:
    """What the core answers to the other runtime's wish for the flow, with its own map of the queues."""
    undefined = {"defined": False}
    always: dict[str, object] = {"whenUnmet": "skip", "whenExhausted": "fail"}
    always |= {"requiredInputPattern": undefined, "forbiddenInputPattern": undefined}
    steps = [
        {"slug": slug, "stepType": "map" if slug == "price" else "single", "dependencies": list(deps), **always}
        for slug, deps in zip(STEPS, ((), ("lines",), ("price",)), strict=True)
    ]
    routes = [{"stepSlug": step, "queueName": queue} for step, queue in zip(STEPS, QUEUES, strict=True)]
    row = admin.execute(
        "select pgflow.ensure_flow_compiled(%s, %s, %s, %s) ->> 'status'",
        (SLUG, Jsonb({"steps": steps, "options": OPTIONS}), mode, Jsonb(routes) if mode == "step" else None),
    ).fetchone()
    assert row is not None
    return row[0]


def waiting(admin: Admin) -> list[int]:
    """How many messages each queue has."""
    counts = " , ".join(f"(select count(*) from pgmq.q_{queue})" for queue in QUEUES)
    row: Any = admin.execute(f"select {counts}".encode()).fetchone()
    return list(row)
