"""The least rights are enough on every core."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from psycopg.conninfo import make_conninfo

import pgflow_starter as pgflow
from pgflow_starter.postgres.setup.grants import grants
from tests.cores.stand_in import Admin, new_role
from tests.support.commands import call
from tests.support.starters import STRATEGIES, echo_job, running


@pytest.fixture
def role(database: str, admin: Admin) -> Iterator[str]:
    """One that has no right here."""
    with new_role(admin) as name:
        yield name


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_least_rights_are_enough_for_flows_retries_failures_and_what_is_left(
    database: str, role: str, strategy: Any
) -> None:
    flow, snoozed = pgflow.Flow("shop", base_delay=0), set[int]()
    flow.step(slug="items")(lambda given, ctx: [1, 2, 3])

    @flow.map(array="items")
    def doubled(item: Any, ctx: pgflow.TaskContext) -> Any:
        if item not in snoozed:
            snoozed.add(item)
            raise pgflow.Snooze(0.1)
        if ctx.attempt == 1:
            raise RuntimeError("once more")
        return item * 2

    flow.step(slug="total", depends_on=["doubled"])(lambda deps, ctx: sum(deps["doubled"]))

    @pgflow.job("failing", max_attempts=1)
    def failing(message: Any, ctx: pgflow.TaskContext) -> Any:
        raise ValueError(message)

    grants(database, role, apply=True)
    worker = make_conninfo(database, user=role)
    settings = {"heartbeat_interval": 0.2, "recovery_interval": 0.2, "stale_threshold": 1.0}
    with running(worker, flows=[flow], jobs=[failing], signal_strategy=strategy, **settings) as starter:
        starter.await_ready(20)
        assert {m.status for m in starter.status().modules} == {"succeeded"}
        assert starter.client.start_flow(flow, {}).wait(20).output == {"total": 12}
        assert starter.client.enqueue(failing, 1).wait(20).status == "failed"
        assert [w.trouble for w in starter.workers()] == [None] * 2
    assert call("db", "check", "--dsn", worker).exit_code == 0


def test_who_may_work_only_works_on_what_is_stored(database: str, role: str) -> None:
    job = echo_job()
    with pgflow.PgflowClient(database) as client:
        client.enqueue(job, 7)
        grants(database, role, apply=True, work_only=True)
        with running(make_conninfo(database, user=role), jobs=[job]) as starter:
            starter.await_ready(20)
            assert starter.client.enqueue(job, 8).wait(20).output == {"echo": 8}
