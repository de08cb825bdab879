"""A flow of three steps: one that fails once, a map over what it says, one on that."""

from __future__ import annotations

from typing import Any

import pgflow_starter as pgflow


def shop(**of_price: Any) -> pgflow.Flow:
    """`of_price` are options of the map. Comes to twice the sum of the numbers that it is given."""
    flow = pgflow.Flow("shop", max_attempts=2, base_delay=0)

    @flow.step()
    def lines(given: Any, ctx: pgflow.TaskContext) -> Any:
        if ctx.attempt == 1:
            raise OSError("the first attempt always fails")
        return given

    @flow.map(array="lines", **of_price)
    def price(line: int, ctx: pgflow.TaskContext) -> int:
        return line * 2

    @flow.step(depends_on=["price"])
    def total(deps: Any, ctx: pgflow.TaskContext) -> Any:
        return sum(deps["price"])

    return flow
