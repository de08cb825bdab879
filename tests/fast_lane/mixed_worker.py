"""A worker process of the mixed test, by the fast lane or by the core's functions, until its input ends."""

from __future__ import annotations

import logging
import sys
from typing import Any

import pgflow_starter as pgflow
from pgflow_starter.errors import PgflowError

MANY = 50
"""Attempts: whoever is killed with a task takes one along."""

SETTINGS: dict[str, Any] = {
    "signal_strategy": "notify",
    "max_concurrency": 10,
    "pool_size": 6,
    "min_poll_interval": 0.1,
    "max_poll_interval": 0.3,
    "stale_threshold": 600.0,  # who is dead is said by the test: nobody alive is taken for dead on a busy machine
}

order = pgflow.Flow("order", max_attempts=MANY, base_delay=0)
squares = pgflow.Flow("squares", max_attempts=MANY, base_delay=0)
broken = pgflow.Flow("broken", max_attempts=MANY, base_delay=0)


def stumble(value: int, ctx: pgflow.TaskContext) -> None:
    """Some first attempts fail."""
    if ctx.attempt == 1 and value % 5 == 0:
        raise OSError(f"{value} fails at first")


@order.step()
def lines(given: Any, ctx: pgflow.TaskContext) -> Any:
    """An array for the map."""
    stumble(given["n"], ctx)
    return [given["n"] + i for i in range(5)]


@order.step()
def note(given: Any, ctx: pgflow.TaskContext) -> Any:
    """Beside it."""
    return f"order {given['n']}"


@order.map(array="lines")
def price(line: int, ctx: pgflow.TaskContext) -> int:
    """Of each line."""
    stumble(line, ctx)
    return line * 2


@order.step(depends_on=["price"])
def total(deps: Any, ctx: pgflow.TaskContext) -> int:
    """Of all."""
    return sum(deps["price"])


@order.step(depends_on=["total", "note"])
def bill(deps: Any, ctx: pgflow.TaskContext) -> Any:
    """After both branches."""
    return {"note": deps["note"], "total": deps["total"]}


@squares.map()
def square(number: int, ctx: pgflow.TaskContext) -> int:
    """Of each of the input's."""
    stumble(number, ctx)
    return number * number


@squares.step(depends_on=["square"])
def summed(deps: Any, ctx: pgflow.TaskContext) -> int:
    """Of all."""
    return sum(deps["square"])


@broken.step()
def parts(given: Any, ctx: pgflow.TaskContext) -> Any:
    """An array for the map."""
    return [*range(4)]


@broken.map(array="parts", max_attempts=1)
def part(number: int, ctx: pgflow.TaskContext) -> int:
    """One of them fails for good, and the run with it."""
    if number == 2:
        raise ValueError("never")
    return number


@broken.step(depends_on=["part"])
def after(deps: Any, ctx: pgflow.TaskContext) -> Any:
    """Is never come to."""
    raise AssertionError


@pgflow.job("mail", max_attempts=MANY, base_delay=0)
def mail(message: int, ctx: pgflow.TaskContext) -> int:
    """Done at once, or with the second attempt."""
    stumble(message, ctx)
    return message


@pgflow.job("doomed", max_attempts=2, base_delay=0)
def doomed(message: int, ctx: pgflow.TaskContext) -> int:
    """Fails as often as it may."""
    raise ValueError("never")


FLOWS = (order, squares, broken)
JOBS = (mail, doomed)


def main(conninfo: str, fast_lane: Any) -> None:
    """Work; says the ids of its workers first."""
    logging.getLogger("pgflow_starter").setLevel(logging.CRITICAL)
    logging.getLogger("pgflow_starter.fast_lane").setLevel(logging.WARNING)
    with pgflow.start(conninfo, flows=FLOWS, jobs=JOBS, fast_lane=fast_lane, **SETTINGS) as starter:
        try:
            starter.await_ready(120)
        except PgflowError as error:
            sys.exit(str(error))
        print(*(worker.worker_id for worker in starter.workers()), flush=True)
        sys.stdin.read()
        lane = starter.status().fast_lane
        if lane is None or lane.on != (fast_lane == "auto"):
            print(f"the fast lane of {fast_lane!r}: {lane}", file=sys.stderr)


if __name__ == "__main__":
    main(*sys.argv[1:])
