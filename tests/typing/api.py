"""What mypy must accept of a user's code, and the types it must infer."""

from __future__ import annotations

from datetime import datetime
from typing import Any, assert_type
from uuid import UUID

import pykka

import pgflow_starter as pgflow
from pgflow_starter.supervision import ChildSpec, SupervisorActor

order = pgflow.Flow("order", max_attempts=3, base_delay=5, timeout=60)


@order.step(timeout=5, if_={"vip": True}, if_not={"test": True}, when_unmet="fail", when_exhausted="skip")
def validate(given: dict[str, int], ctx: pgflow.TaskContext) -> dict[str, int]:
    ctx.logger.info("attempt %d", ctx.attempt)
    return given if not ctx.cancelled.is_set() else {}


@order.map(array="validate", slug="each", if_={"validate": []}, when_unmet="skip-cascade")
def each(item: int, ctx: pgflow.TaskContext) -> int:
    return item


@pgflow.job("mail", max_concurrency=2, start_delay=1)
def mail(message: str, ctx: pgflow.TaskContext) -> None:
    assert_type(ctx.run_id, UUID)


def a_users_program(conninfo: str) -> None:
    """Every call of the table."""
    assert_type(validate({}, _context()), dict[str, int])
    assert_type(mail, pgflow.Job)
    with pgflow.start(conninfo, flows=[order, "shop.flows:order"], jobs=[mail], signal_strategy="notify") as starter:
        starter.await_ready(timeout=30)
        assert_type(starter.ready(), bool)
        assert_type(starter.healthy(), bool)
        status = starter.status()
        assert_type(status, pgflow.StarterStatus)
        assert_type(status.ready_at, datetime | None)
        assert_type(status.modules, tuple[pgflow.ModuleState, ...])
        assert_type(status.to_dict(), dict[str, Any])
        state = starter.module_status(order)
        assert_type(state, pgflow.ModuleState | None)
        if state is not None and state.last_error is not None:
            assert_type(state.last_error.reason, str)
        starter.retry_now("mail")
        assert_type(starter.which_children(), tuple[pgflow.ChildInfo, ...])
        run = starter.client.start_flow(order, {"a": 1}, run_id="00000000-0000-0000-0000-000000000001")
        assert_type(run.wait(timeout=5), pgflow.Run)
        runs = starter.client.enqueue_many("mail", [1], keys=["a"], delay=0.5)
        assert_type(runs[0].input_differs, bool)
        assert_type(pgflow.run_id_of(order, "a"), UUID)
        assert_type(starter.client.runs(flow=order, after=run), tuple[pgflow.RunSummary, ...])
        assert_type(starter.client.details(run.id).tasks, tuple[pgflow.TaskRun, ...])
        assert_type(starter.client.aio, pgflow.AioClient)
        assert_type(starter.proxy().status(), pykka.Future[pgflow.StarterStatus])
        assert_type(pgflow.Backoff(base=0.5).delay(1, 0.0), float)
        starter.stop(timeout=1)


async def a_users_coroutine(client: pgflow.PgflowClient) -> None:
    run = await client.aio.start_flow(order, {"order_id": 1}, run_id=UUID(int=1), connection=None)
    assert_type(run, pgflow.AioRun)
    assert_type(run.status, str)
    assert_type(await run.wait(timeout=5), pgflow.AioRun)
    assert_type(await run.refresh(), pgflow.AioRun)
    assert_type(await run.steps(), tuple[pgflow.StepRun, ...])
    assert_type(await client.aio.enqueue_many("mail", ["a"]), list[pgflow.AioRun])
    assert_type(await client.aio.recent_runs(5, patience=1.0), tuple[pgflow.RunSummary, ...])
    assert_type((await client.aio.details(run.id)).run, pgflow.AioRun)
    assert_type(client.details(run.id).run, pgflow.Run)
    await client.aio.run(1)  # type: ignore[arg-type]
    await client.aio.enqueue(mail, priority=7)  # type: ignore[call-arg]


def a_users_own_tree(conninfo: str) -> None:
    """A starter as a child."""
    spec = pgflow.child_spec(conninfo, id="flows", restart="transient", shutdown=5, flows=[order], pool_size=3)
    assert_type(spec, ChildSpec)
    supervisor = SupervisorActor.start("app", [spec])
    assert_type(pgflow.starter_of(supervisor, "flows"), pgflow.Starter)


def _context() -> pgflow.TaskContext:
    raise NotImplementedError
