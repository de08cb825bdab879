"""Typed payloads on a real database: instances in, instances in the handlers, and what does not fit."""

from __future__ import annotations

import asyncio
import datetime as dt
import uuid
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NotRequired, TypedDict

import psycopg
import pydantic
import pytest

import pgflow_starter as pgflow
from tests.support.starters import STRATEGIES, running

WAIT = 20.0


@dataclass
class Order:
    id: uuid.UUID
    at: dt.datetime
    cents: list[int]
    discount: Decimal = Decimal(0)


class Invoice(pydantic.BaseModel):
    order: uuid.UUID
    total: Decimal = pydantic.Field(alias="grandTotal")


class Deps(TypedDict):
    bill: Invoice
    gift: NotRequired[Order]


ORDER = Order(uuid.UUID(int=7), dt.datetime(2026, 1, 2, tzinfo=dt.UTC), [1999, 1], Decimal("0.50"))


def shop(seen: list[Any]) -> pgflow.Flow:
    """Its handlers take an order, an invoice by its step, an invoice of an array; they put down what they got."""
    flow = pgflow.Flow("shop")

    @flow.step()
    def bill(order: Order, ctx: pgflow.TaskContext) -> Invoice:
        seen.append(order)
        assert isinstance(ctx.flow_input, dict)
        return Invoice(order=order.id, grandTotal=sum(order.cents) - order.discount)

    @flow.step(depends_on=["bill"])
    def close(deps: Deps, ctx: pgflow.TaskContext) -> list[Invoice]:
        seen.append(deps)
        return [deps["bill"]]

    @flow.map(array="close")
    def print_out(invoice: Invoice, ctx: pgflow.TaskContext) -> str:
        seen.append(invoice)
        return f"{invoice.total} EUR"

    return flow


def mail_job(seen: list[Any]) -> pgflow.Job:
    @pgflow.job("mail", max_attempts=3, base_delay=0)
    def mail(order: Order, ctx: pgflow.TaskContext) -> uuid.UUID:
        seen.append(order)
        return order.id

    return mail


def runs(conninfo: str) -> int:
    with psycopg.connect(conninfo) as conn:
        row = conn.execute("select count(*) from pgflow.runs").fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_flow_s_handlers_get_and_return_what_they_say(database: str, strategy: str) -> None:
    seen: list[Any] = []
    flow = shop(seen)
    with running(database, flows=[flow], signal_strategy=strategy) as starter:
        run = starter.client.start_flow(flow, ORDER).wait(WAIT).raise_for_status()
    invoice = Invoice(order=ORDER.id, grandTotal=Decimal("1999.50"))
    assert seen == [ORDER, {"bill": invoice}, invoice]
    assert run.result == ["1999.50 EUR"]


def test_each_call_takes_instances_and_sends_nothing_that_does_not_fit(database: str) -> None:
    seen: list[Any] = []
    mail = mail_job(seen)
    bad = {"id": "hunter2", "at": "2026-01-02T00:00:00Z", "cents": []}
    told = r"job 'mail': {0} does not fit Order: {0}\.id: invalid UUID, got str$"
    with running(database, jobs=[mail]) as starter:
        starter.await_ready(WAIT)
        client = starter.client
        with pytest.raises(pgflow.PayloadError, match=told.format("input")):
            client.enqueue(mail, bad)
        with pytest.raises(pgflow.PayloadError, match=told.format("input")):
            client.enqueue("mail", bad)  # the starter knows it
        with pytest.raises(pgflow.PayloadError, match=told.format(r"inputs\[1\]")):
            client.enqueue_many(mail, [ORDER, bad])
        with pytest.raises(pgflow.PayloadError, match=told.format("input")):
            asyncio.run(client.aio.enqueue(mail, bad))
        with psycopg.connect(database) as conn:
            with pytest.raises(pgflow.PayloadError, match=told.format("input")):
                client.enqueue(mail, bad, connection=conn)
            assert conn.execute("select 1").fetchone() == (1,)
        assert runs(database) == 0
        started = [client.enqueue(mail, ORDER), *client.enqueue_many(mail, [ORDER, ORDER])]
        assert [run.wait(WAIT).result for run in started] == [str(ORDER.id)] * 3
    assert seen == [ORDER] * 3


def test_what_comes_from_elsewhere_and_does_not_fit_fails_for_good(
    database: str, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[Any] = []
    mail = mail_job(seen)
    with running(database, jobs=[mail]) as starter, pgflow.PgflowClient(database) as stranger:
        starter.await_ready(WAIT)
        run = stranger.enqueue("mail", {"id": "hunter2"}).wait(WAIT)
        assert run.status == "failed"
        assert run.error is not None
        assert "PayloadError: input does not fit Order: input.id: invalid UUID, got str" in run.error
        assert "hunter2" not in run.error
    assert "failed in attempt 1 of 3, for good: pgflow_starter.errors.PayloadError" in caplog.text
    assert "hunter2" not in caplog.text
    assert seen == []
