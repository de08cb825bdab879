"""Flows that are run both ways, by `run_flow` and by a starter, and must come out the same."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
import random
from collections.abc import Callable
from functools import partial
from typing import Any

import pgflow_starter as pgflow

Declare = Callable[[pgflow.Flow], object]


@dataclasses.dataclass(frozen=True)
class Case:
    """A flow, by what declares its steps, and the input that it is run with."""

    slug: str
    declare: Declare
    input: Any = None

    def flow(self) -> pgflow.Flow:
        """The flow, anew."""
        flow = pgflow.Flow(self.slug, max_attempts=3, base_delay=0)
        self.declare(flow)
        return flow


def shop(flow: pgflow.Flow) -> None:
    """Every kind of step, two of them final."""
    flow.step("load")(lambda order, ctx: [{"item": i} for i in order["items"]])
    flow.map("load", slug="price")(lambda line, ctx: line["item"] * 10)
    flow.map("price", slug="tax")(lambda price, ctx: price * 2)
    flow.step("total", depends_on=["tax", "load"])(lambda deps, ctx: [sum(deps["tax"]), deps["load"]])
    flow.step("count", depends_on=["load"])(lambda deps, ctx: len(deps["load"]))


def over_the_input(flow: pgflow.Flow) -> None:
    """Maps from the root on."""
    flow.map(slug="each")(lambda item, ctx: [ctx.task_index, item])
    flow.map("each", slug="again")(lambda item, ctx: item[1:])
    flow.step("after", depends_on=["each"])(lambda deps, ctx: deps)


def lone_map(flow: pgflow.Flow) -> None:
    """One map."""
    flow.map(slug="each")(lambda item, ctx: item)


def fed(value: Any, flow: pgflow.Flow) -> None:
    """A map over a value."""
    flow.step("first")(lambda given, ctx: value)
    flow.step("zebra")(lambda given, ctx: "begun later")
    flow.map("first", slug="each")(lambda item, ctx: item)


def unsteady(flow: pgflow.Flow) -> None:
    """Each element succeeds at an attempt of its own."""

    @flow.map()
    def each(attempt: int, ctx: pgflow.TaskContext) -> str:
        if ctx.attempt < attempt:
            raise ConnectionError(f"attempt {ctx.attempt} of {attempt}")
        return f"{attempt}: {ctx.attempt}"


def exhausted(flow: pgflow.Flow) -> None:
    """One branch fails for good, the other had begun."""
    flow.step("alpha")(lambda given, ctx: 1)
    flow.step("gamma", depends_on=["alpha"])(lambda deps, ctx: 1)

    @flow.step(max_attempts=2)
    def beta(given: Any, ctx: pgflow.TaskContext) -> None:
        raise KeyError(given["key"])

    flow.step("after", depends_on=["beta", "gamma"])(lambda deps, ctx: None)


def storing(value: Any, flow: pgflow.Flow) -> None:
    """A value that is stored, and handed on."""
    flow.step("first", max_attempts=2)(lambda given, ctx: value)
    flow.step("second", depends_on=["first"])(lambda deps, ctx: deps["first"])


def ending(error: Callable[[], BaseException], flow: pgflow.Flow) -> None:
    """A handler that raises."""

    @flow.step()
    def first(given: Any, ctx: pgflow.TaskContext) -> None:
        raise error()


def spoiling(flow: pgflow.Flow) -> None:
    """Handlers that change what they were given."""

    def spoil(given: Any, ctx: pgflow.TaskContext) -> Any:
        given.append("spoilt")
        ctx.flow_input.append("spoilt")
        if ctx.attempt == 1:
            raise RuntimeError
        return given

    flow.step("first")(spoil)
    flow.map("first", slug="each")(lambda item, ctx: spoil([item], ctx))
    flow.step("last", depends_on=["each"])(lambda deps, ctx: spoil(deps["each"], ctx))


def awaited(flow: pgflow.Flow) -> None:
    """Asynchronous handlers beside a plain one; each element fails in its own way."""

    @flow.step()
    async def first(given: Any, ctx: pgflow.TaskContext) -> Any:
        return await asyncio.gather(asyncio.sleep(0, given), asyncio.to_thread(lambda: ctx.flow_input))

    flow.step("plain", depends_on=["first"])(lambda deps, ctx: deps["first"])

    @flow.map()
    async def each(kind: str, ctx: pgflow.TaskContext) -> Any:
        await asyncio.sleep(0)
        if ctx.attempt == 1:
            if kind == "snooze":
                raise pgflow.Snooze(0)
            raise {"exit": SystemExit, "cancel": asyncio.CancelledError}.get(kind, ValueError)(kind)
        return object() if kind == "object" else ctx.attempt


def any_graph(seed: int, flow: pgflow.Flow) -> None:
    """A graph of ten steps in which now and then a handler fails or returns no array."""
    draw = random.Random(seed)
    slugs: list[str] = []

    def work(given: Any, ctx: pgflow.TaskContext) -> Any:
        own = random.Random(f"{seed} {ctx.step_slug} {ctx.task_index} {ctx.attempt}")
        if own.random() < 0.4:
            raise RuntimeError(own.random())
        return own.random() if own.random() < 0.05 else [own.randrange(9) for _ in range(own.randrange(4))]

    for number in range(10):
        slug = f"{draw.choice('abcz')}{number}"
        if draw.random() < 0.4:
            flow.map(draw.choice(slugs) if slugs else None, slug=slug)(work)
        else:
            flow.step(slug, depends_on=draw.sample(slugs, min(len(slugs), draw.randrange(3))))(work)
        slugs.append(slug)


@dataclasses.dataclass
class Receipt:
    """As an output."""

    due: dt.date
    lines: tuple[int, ...]


JSON = {
    "zz": (1, (2,)),
    "a_longer_key": {"é": 1, "zz": 2, "b": 3},
    "numbers": [1e16, 1.5e300, 1e-7, -0.0, 1.0, 0.1, 10**30, True, None],
    "text": '\u20ac \n"\\ \U0001f600',
    "receipt": Receipt(dt.date(2026, 11, 22), (1, 2)),
}

NO_ARRAYS: tuple[object, ...] = (None, 7, True, "[]", {})
NO_JSON: tuple[object, ...] = (float("nan"), b"x", {1}, {1: 2}, "\x00")

CASES = [
    Case("graph_with_maps", shop, {"items": [1, 2, 3]}),
    Case("maps_over_nothing", shop, {"items": []}),
    Case("root_map", over_the_input, [3, None, {"b": 1}, "x"]),
    Case("root_map_over_nothing", over_the_input, []),
    Case("only_a_map_over_nothing", lone_map, []),
    *(Case(f"map_over_{name}", partial(fed, value)) for name, value in JSON.items()),
    *(Case(f"map_over_{type(value).__name__.lower()}", partial(fed, value)) for value in NO_ARRAYS),
    Case("unsteady", unsteady, [1, 3, 2, 3]),
    Case("unsteady_for_good", unsteady, [2, 9, 1]),
    Case("exhausted", exhausted, {"key": "value"}),
    Case("stored", partial(storing, JSON)),
    *(Case(f"no_json_{number}", partial(storing, value)) for number, value in enumerate(NO_JSON)),
    Case("exit", partial(ending, SystemExit)),
    Case("error_without_text", partial(ending, AssertionError)),
    Case("permanent", partial(ending, partial(pgflow.PermanentError, "never"))),
    Case("awaited", awaited, ["exit", "cancel", "else"]),
    Case("awaited_in_vain", awaited, ["object"]),
    Case("spoiling", spoiling, ["x", "y"]),
    *(Case(f"random_{seed}", partial(any_graph, seed), [1, 2]) for seed in range(12)),
]
