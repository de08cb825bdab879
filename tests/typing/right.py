"""Forty uses of the public API that no type checker may refuse, and the types that it must infer."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar, Unpack, assert_type
from uuid import UUID

import pykka

import pgflow_starter as pgflow
from pgflow_starter.supervision import ChildSpec, SupervisorActor
from pgflow_starter.testing import FlowRun, make_context, run_flow
from tests.typing import shop
from tests.typing.shop import CONNINFO, Mail, Order, Receipt

SOON = datetime(2030, 1, 1, tzinfo=UTC)
ORDER: Order = {"id": 1, "lines": ["lamp"]}
ctx = make_context()

Message = TypeVar("Message")
Output = TypeVar("Output")


def declaring() -> None:
    assert_type(shop.mail, pgflow.Job[Mail, None])  # right
    assert_type(shop.charge, pgflow.Job[Order, Receipt])  # right
    assert_type(shop.fetch, pgflow.Job[str, dict[str, int]])  # right
    assert_type(shop.lines(ORDER, ctx), list[str])  # right
    assert_type(shop.price("lamp", ctx).send(None), Any)  # right
    shop.mail(Mail("ada"), ctx)  # right
    pgflow.Schedule("0 7 * * *", shop.order, input=ORDER, timezone="Europe/Berlin", catch_up="last")  # right


def starting(delays: pgflow.Backoff, **settings: Unpack[pgflow.StartSettings]) -> None:
    jobs = [shop.mail, shop.charge, shop.fetch]
    pgflow.start(CONNINFO, flows=[shop.order, shop.Nightly(), "shop.flows:order"], jobs=jobs)  # right
    pgflow.start(CONNINFO, log_errors="type", fast_lane="off", retention=pgflow.Retention(), lazy=True)  # right
    pgflow.start(CONNINFO, middleware=[shop.timed], schedules=(pgflow.Schedule("* * * * *", "order"),))  # right
    pgflow.start(CONNINFO, signal_strategy=pgflow.SignalStrategy.POLLING, backoff=delays, pool_size=3)  # right
    pgflow.start(CONNINFO, signal_strategy="notify", on_terminate=lambda error: print(error.args))  # right
    starter = pgflow.start(CONNINFO, **settings)  # right
    mine: pgflow.StartSettings = {"max_concurrency": 3, "fast_lane": "auto"}  # right
    assert_type(pgflow.child_spec(CONNINFO, restart="transient", jobs=jobs, **mine), ChildSpec)  # right
    assert_type(pgflow.starter_of(SupervisorActor.start("app"), "flows"), pgflow.Starter)  # right
    assert_type(starter.module_status(shop.order), pgflow.ModuleState | None)  # right
    assert_type(starter.proxy().status(), pykka.Future[pgflow.StarterStatus])  # right


def enqueueing(client: pgflow.PgflowClient) -> None:
    assert_type(client.enqueue(shop.mail, Mail("ada")), pgflow.Run[None])  # right
    assert_type(client.enqueue(shop.charge, {"id": 1, "lines": []}, key="1"), pgflow.Run[Receipt])  # right
    assert_type(client.enqueue(shop.fetch, "a", run_id=UUID(int=1), at=SOON), pgflow.Run[dict[str, int]])  # right
    assert_type(client.enqueue(shop.draft), pgflow.Run[Any])  # right
    assert_type(client.enqueue(shop.relay, {"any": "thing"}, delay=0.5, connection=None), pgflow.Run[Any])  # right
    assert_type(client.enqueue("mail", {"to": "ada"}), pgflow.Run[Any])  # right
    assert_type(client.start_flow(shop.order, ORDER), pgflow.Run[Any])  # right
    assert_type(client.start_flow(shop.Nightly()), pgflow.Run[Any])  # right
    many = client.enqueue_many(shop.charge, [{"id": n, "lines": []} for n in (1, 2)])
    assert_type(many, list[pgflow.Run[Receipt]])  # right
    assert_type(client.start_flows("order", [ORDER], keys=["a"])[0].input_differs, bool)  # right
    assert_type(by_hand(client, shop.charge, ORDER), pgflow.Run[Receipt])  # right


def by_hand(client: pgflow.PgflowClient, job: pgflow.FlowModule[Message, Output], given: Message) -> pgflow.Run[Output]:
    return client.enqueue(job, given)  # right


def awaiting(client: pgflow.PgflowClient) -> None:
    run = client.enqueue(shop.charge, ORDER)
    assert_type(run.wait(timeout=5).raise_for_status().result["cents"], int)  # right
    assert_type(run.refresh().status == "completed", bool)  # right
    kept: pgflow.Run = client.rerun(run.id)  # right
    assert_type(client.runs(status="failed", flow=shop.order, after=kept), tuple[pgflow.RunSummary, ...])  # right
    assert_type(client.rerun_all(shop.order, status="failed", since=timedelta(hours=1)), list[pgflow.Run])  # right
    assert_type(run_flow(shop.charge, {"id": 1, "lines": []}), FlowRun[Receipt])  # right


async def with_asyncio(aio: pgflow.AioClient) -> None:
    run = await aio.enqueue(shop.charge, {"id": 1, "lines": []}, run_id=UUID(int=1), connection=None)
    assert_type(run, pgflow.AioRun[Receipt])  # right
    assert_type((await run.wait(timeout=5)).result["order_id"], int)  # right
    assert_type(await aio.start_flow("order", ORDER, at=SOON), pgflow.AioRun[Any])  # right
    assert_type(await aio.enqueue_many(shop.fetch, ["a", "b"], delay=1), list[pgflow.AioRun[dict[str, int]]])  # right
