"""A role without rights, and the modules that it is to run."""

from __future__ import annotations

from typing import Any

import psycopg

import pgflow_starter as pgflow
from pgflow_starter.postgres.stores.flows import compile_flow

Admin = psycopg.Connection[tuple[Any, ...]]


WORKER = 'Odd "worker"'


QUOTED = '"Odd ""worker"""'


def flow_of(slug: str = "f") -> pgflow.Flow:
    """With a map whose tasks are tried twice."""
    flow = pgflow.Flow(slug, base_delay=0)

    @flow.step()
    def items(given: Any, ctx: pgflow.TaskContext) -> Any:
        return [1, 2, 3]

    @flow.map(array="items")
    def doubled(item: Any, ctx: pgflow.TaskContext) -> Any:
        if ctx.attempt == 1:
            raise RuntimeError("once more")
        return item * 2

    @flow.step(depends_on=["doubled"])
    def total(deps: Any, ctx: pgflow.TaskContext) -> Any:
        return sum(deps["doubled"])

    return flow


def failing_job(slug: str = "failing") -> pgflow.Job:
    """It never does."""

    @pgflow.job(slug, max_attempts=1)
    def failing(message: Any, ctx: pgflow.TaskContext) -> Any:
        raise ValueError(message)

    return failing


def compiled(admin: Admin, *modules: Any) -> None:
    """By the owner."""
    for module in modules:
        compile_flow(admin, module.__pgflow_definition__())
