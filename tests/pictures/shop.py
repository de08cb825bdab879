"""The shop in the pictures, for `pgflow-starter run shop:order ...`: a bank, a stock and a mail server fail."""

from __future__ import annotations

from typing import Any

import pgflow_starter as pgflow

order = pgflow.Flow("process_order", max_attempts=3, base_delay=1)
checkout = pgflow.Flow("checkout", max_attempts=2, base_delay=1)
nightly = pgflow.Schedule("30 2 * * *", "nightly_report", timezone="Europe/Berlin")


class BankClosedError(Exception):
    """The bank takes no payment."""


class MailboxFullError(Exception):
    """The mail server takes no e-mail for that address."""


def work(ctx: pgflow.TaskContext, seconds: float) -> None:
    """Take that long."""
    ctx.cancelled.wait(seconds)


@order.step()
def lines(given: Any, ctx: pgflow.TaskContext) -> Any:
    work(ctx, 0.12)
    return given["lines"]


@order.step()
def discount(given: Any, ctx: pgflow.TaskContext) -> int:
    work(ctx, 0.25)
    return 10 if given["customer"] == "ada" else 0


@order.map(array="lines")
def price(line: Any, ctx: pgflow.TaskContext) -> Any:
    work(ctx, 0.2)
    if line.get("recount") and ctx.attempt == 1:
        raise TimeoutError("the stock did not answer within 2 s")
    return line["pieces"] * line["cents"]


@order.step(depends_on=["price", "discount"])
def charge(deps: Any, ctx: pgflow.TaskContext) -> Any:
    work(ctx, 0.4)
    return pay(ctx.flow_input["card"], sum(deps["price"]) * (100 - deps["discount"]) // 100)


def pay(card: str, cents: int) -> Any:
    """Have the bank take the money."""
    if card == "expired":
        raise BankClosedError("the bank answered 503, three times")
    return {"cents": cents}


@order.step(depends_on=["charge"])
def invoice(deps: Any, ctx: pgflow.TaskContext) -> Any:
    work(ctx, 0.15)
    return deps["charge"]


@order.step(depends_on=["charge"])
def parcel(deps: Any, ctx: pgflow.TaskContext) -> str:
    work(ctx, 0.3)
    return "sent"


@pgflow.job("send_email", max_attempts=4, base_delay=300)
def send_email(message: Any, ctx: pgflow.TaskContext) -> str:
    work(ctx, 0.08)
    if message.get("full"):
        raise MailboxFullError("452: the mailbox is full, try again later")
    return "sent"


@pgflow.job("restock")
def restock(message: Any, ctx: pgflow.TaskContext) -> int:
    work(ctx, 0.1)
    return int(message["pieces"])


@pgflow.job("nightly_report")
def nightly_report(message: Any, ctx: pgflow.TaskContext) -> str:
    work(ctx, 0.5)
    return "written"


@checkout.step(slug="lines")
def lines_of_it(given: Any, ctx: pgflow.TaskContext) -> Any:
    work(ctx, 0.3)
    if ctx.attempt == 1:
        raise TimeoutError("the stock did not answer within 2 s")
    return given


# So late that the process which did the first step has ended: the next one is told to begin at once.
@checkout.step(slug="price", depends_on=["lines"], start_delay=3600)
def price_of_it(deps: Any, ctx: pgflow.TaskContext) -> Any:
    work(ctx, 0.5)
    return [line["pieces"] * line["cents"] for line in deps["lines"]]


@checkout.step(depends_on=["price"])
def total(deps: Any, ctx: pgflow.TaskContext) -> Any:
    work(ctx, 0.2)
    return sum(deps["price"])
