"""What the demo registers: a small shop, and one module that is none."""

from __future__ import annotations

from typing import Any

from pgflow_starter.core.flow import Flow, job

_PRICES = {"lamp": 1900, "table": 12500, "chair": 4900}

process_order = Flow("process_order", max_attempts=3, base_delay=1, timeout=10)


@process_order.step()
def lines(order: Any, ctx: Any) -> Any:
    """A root step: the order's lines, over which the map step goes."""
    return order["lines"]


@process_order.step()
def discount(order: Any, ctx: Any) -> Any:
    """Another root step, in per cent, beside the first."""
    return 10 if order["customer"] == "ada" else 0


@process_order.map(array="lines")
def price(line: Any, ctx: Any) -> Any:
    """One task for each line."""
    return line["pieces"] * _PRICES[line["article"]]


@process_order.step(depends_on=["price", "discount"])
def invoice(deps: Any, ctx: Any) -> Any:
    """The final step, once every price and the discount are known."""
    total = sum(deps["price"]) * (100 - deps["discount"]) // 100
    return {"customer": ctx.flow_input["customer"], "lines": deps["price"], "cents": total}


@job("send_email", base_delay=1, timeout=10)
def send_email(message: Any, ctx: Any) -> Any:
    """A job: a flow of one step."""
    return f"to {message['to']}: {message['subject']}"


@job("restock", base_delay=1, timeout=10)
def restock(message: Any, ctx: Any) -> Any:
    """The job whose queue is locked by someone else when the starter begins."""
    return {"ordered": message["article"], "pieces": message["missing"] * 2}


class LoyaltyPoints:
    """Somebody forgot to make a flow of this one."""


MESSAGES: tuple[tuple[Any, Any, Any], ...] = (
    (
        process_order,
        {"customer": "ada", "lines": [{"article": "lamp", "pieces": 2}, {"article": "table", "pieces": 1}]},
        {"customer": "ada", "lines": [3800, 12500], "cents": 14670},
    ),
    (
        process_order,
        {"customer": "alan", "lines": [{"article": "chair", "pieces": 4}]},
        {"customer": "alan", "lines": [19600], "cents": 19600},
    ),
    (send_email, {"to": "ada@example.org", "subject": "your invoice"}, "to ada@example.org: your invoice"),
    (restock, {"article": "chair", "missing": 4}, {"ordered": "chair", "pieces": 8}),
)
"""Which module gets which input, and the result that it must have."""
