"""What a user declares: the flow and the jobs that `right` and `wrong` use."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypedDict

import pgflow_starter as pgflow

CONNINFO = "dbname=shop"


class Order(TypedDict):
    id: int
    lines: list[str]


class Receipt(TypedDict):
    order_id: int
    cents: int


@dataclass
class Mail:
    to: str


order = pgflow.Flow("order", max_attempts=3, base_delay=5, timeout=60)


@order.step(timeout=5, if_={"vip": True}, if_not={"test": True}, when_unmet="fail", when_exhausted="skip")
def lines(given: Order, ctx: pgflow.TaskContext) -> list[str]:
    ctx.logger.info("attempt %d", ctx.attempt)
    return given["lines"] if not ctx.cancelled.is_set() else []


@order.map(array="lines", slug="each", if_={"lines": []}, when_unmet="skip-cascade")
async def price(line: str, ctx: pgflow.TaskContext) -> int:
    return len(line)


@pgflow.job("mail", max_concurrency=2, start_delay=1)
def mail(message: Mail, ctx: pgflow.TaskContext) -> None:
    ctx.logger.info("to %s", message.to)


@pgflow.job("charge")
def charge(given: Order, ctx: pgflow.TaskContext) -> Receipt:
    return {"order_id": given["id"], "cents": 1900}


@pgflow.job("fetch", timeout=5)
async def fetch(url: str, ctx: pgflow.TaskContext) -> dict[str, int]:
    return {url: ctx.attempt}


@pgflow.job("draft")
async def draft(receipt: Receipt | None, ctx: pgflow.TaskContext) -> Mail:
    return Mail(f"order {receipt and receipt['order_id']}")


@pgflow.job("relay")
def relay(message: Any, ctx: pgflow.TaskContext) -> Any:
    return message


class Nightly:
    """A flow module of the user's own."""

    def __pgflow_definition__(self) -> pgflow.FlowDefinition:
        return pgflow.FlowDefinition("nightly", (pgflow.StepDefinition("tidy", tidy),))


def tidy(given: Any, ctx: pgflow.TaskContext) -> None:
    """A handler that is in no flow yet."""


def alone(given: Order) -> Order:
    """No handler: it takes no context."""
    return given


def turned(ctx: pgflow.TaskContext, given: Order) -> Order:
    """No handler: its parameters are in the other order."""
    return given


@contextmanager
def timed(ctx: pgflow.TaskContext) -> Generator[None]:
    """A middleware."""
    yield


def untimed(ctx: pgflow.TaskContext) -> Generator[None]:
    """None, for it lacks its decorator."""
    yield
