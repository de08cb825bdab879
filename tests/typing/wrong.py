"""Forty uses of the public API that a type checker must refuse. Behind each: mypy's code; pyright's rule."""

from __future__ import annotations

import pgflow_starter as pgflow
from pgflow_starter.testing import make_context, run_flow
from tests.typing import shop
from tests.typing.shop import CONNINFO, Mail, Order

ORDER: Order = {"id": 1, "lines": ["lamp"]}
ctx = make_context()


def declaring() -> None:
    shop.order.step()(shop.alone)  # wrong: type-var; reportArgumentType
    shop.order.step()(shop.turned)  # wrong: type-var; reportArgumentType
    shop.order.step("tidy", when_unmet="ignore")(shop.tidy)  # wrong: arg-type; reportArgumentType
    shop.order.step("tidy", when_exhausted="retry")(shop.tidy)  # wrong: arg-type; reportArgumentType
    shop.order.step("tidy", time_out=5)(shop.tidy)  # wrong: call-arg; reportCallIssue
    pgflow.job("alone")(shop.alone)  # wrong: arg-type; reportArgumentType, reportCallIssue
    pgflow.job(shop.tidy)  # wrong: arg-type; reportArgumentType
    shop.lines({"id": 1}, ctx)  # wrong: typeddict-item; reportArgumentType
    shop.mail(Mail("ada"), None)  # wrong: arg-type; reportArgumentType
    _: pgflow.Job[str, None] = shop.mail  # wrong: assignment; reportAssignmentType
    pgflow.Schedule("0 7 * * *", shop.order, catch_up="lats")  # wrong: arg-type; reportArgumentType


def starting() -> None:
    pgflow.start(CONNINFO, flows=shop.order)  # wrong: arg-type; reportArgumentType
    pgflow.start(CONNINFO, jobs=[shop.tidy])  # wrong: list-item; reportArgumentType
    pgflow.start(CONNINFO, signal_strategy="notfy")  # wrong: arg-type; reportArgumentType
    pgflow.start(CONNINFO, pool_sise=3)  # wrong: call-arg; reportCallIssue
    pgflow.start(CONNINFO, pool_size="3")  # wrong: arg-type; reportArgumentType
    pgflow.start(CONNINFO, log_errors="none")  # wrong: arg-type; reportArgumentType
    pgflow.start(CONNINFO, fast_lane="on")  # wrong: arg-type; reportArgumentType
    pgflow.start(CONNINFO, middleware=[shop.untimed])  # wrong: list-item; reportArgumentType
    pgflow.start(CONNINFO, schedules=["0 7 * * *"])  # wrong: list-item; reportArgumentType
    pgflow.child_spec(CONNINFO, restart="always")  # wrong: arg-type; reportArgumentType
    _: pgflow.StartSettings = {"pool_sise": 3}  # wrong: typeddict-unknown-key; reportAssignmentType
    pgflow.start(CONNINFO).module_status(shop.tidy)  # wrong: arg-type; reportArgumentType


def enqueueing(client: pgflow.PgflowClient) -> None:
    client.enqueue(shop.mail, {"to": "ada"})  # wrong: arg-type; reportArgumentType
    client.enqueue(shop.mail)  # wrong: arg-type; reportArgumentType
    client.enqueue(shop.mail, Mail("ada"), priority=7)  # wrong: call-overload; reportCallIssue
    client.enqueue(shop.mail, Mail("ada"), delay="1h")  # wrong: call-overload; reportArgumentType
    client.enqueue(shop.charge, {"id": "1", "lines": []})  # wrong: arg-type; reportArgumentType
    client.enqueue(shop.charge, {"id": 1})  # wrong: arg-type; reportArgumentType
    client.enqueue(shop.fetch, 7)  # wrong: arg-type; reportArgumentType
    client.enqueue(shop.tidy, 7)  # wrong: call-overload; reportArgumentType
    client.enqueue_many(shop.charge, [{"id": "1", "lines": []}])  # wrong: list-item; reportArgumentType
    run_flow(shop.charge, {"id": 1})  # wrong: arg-type; reportArgumentType


def awaiting(client: pgflow.PgflowClient) -> None:
    run = client.enqueue(shop.charge, ORDER)
    print(run.wait().result["amount"])  # wrong: typeddict-item; reportGeneralTypeIssues
    print(run.status == "complete")  # wrong: comparison-overlap; reportUnnecessaryComparison
    client.runs(status="done")  # wrong: arg-type; reportArgumentType
    client.rerun_all(status="started")  # wrong: arg-type; reportArgumentType


async def with_asyncio(aio: pgflow.AioClient) -> None:
    await aio.enqueue(shop.fetch, 7)  # wrong: arg-type; reportArgumentType
    print((await aio.enqueue(shop.charge, ORDER)).result["amount"])  # wrong: typeddict-item; reportGeneralTypeIssues
    await aio.enqueue(shop.charge, ORDER).wait()  # wrong: attr-defined; reportAttributeAccessIssue
