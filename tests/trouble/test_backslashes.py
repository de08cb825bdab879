"""A role or a database for which a backslash within quotes is an escape, as it was before PostgreSQL 9.1."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from psycopg import sql

import pgflow_starter as pgflow
from pgflow_starter.postgres.setup.install import check, install
from tests.support.starters import STRATEGIES, echo_job, running

WAIT = 30.0
TEXT = r"C:\new\table '\' \\"


def _flow() -> pgflow.Flow:
    flow = pgflow.Flow("parts", max_attempts=2, base_delay=0)

    @flow.step()
    def parts(given: Any, ctx: pgflow.TaskContext) -> Any:
        return [given, given]

    @flow.map(array="parts")
    def same(part: str, ctx: pgflow.TaskContext) -> str:
        if ctx.attempt == 1:
            raise OSError(part)
        return part

    return flow


@pytest.fixture
def old_fashioned(empty_database: str) -> str:
    """A database with nothing in it, whose sessions begin so."""
    with psycopg.connect(empty_database, autocommit=True) as connection:
        name = sql.Identifier(connection.info.dbname)
        connection.execute(sql.SQL("alter database {} set standard_conforming_strings to off").format(name))
    return empty_database


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_what_a_backslash_is_to_the_database_is_no_obstacle(old_fashioned: str, strategy: str) -> None:
    assert install(old_fashioned).inventory == check(old_fashioned)
    flow, job = _flow(), echo_job()
    with running(old_fashioned, flows=[flow], jobs=[job], signal_strategy=strategy) as starter:
        starter.await_ready(WAIT)
        runs = [starter.client.enqueue(job, TEXT), *starter.client.enqueue_many(job, [TEXT])]
        for autocommit in (False, True):
            with psycopg.connect(old_fashioned, autocommit=autocommit) as connection:
                runs.append(starter.client.enqueue(job, TEXT, connection=connection))
                with pytest.raises(pgflow.UnknownFlowError):
                    starter.client.enqueue("nowhere", TEXT, connection=connection)
                assert connection.execute("show standard_conforming_strings").fetchone() == ("off",)
        assert [run.wait(WAIT).result for run in runs] == [TEXT] * 4
        run = starter.client.start_flow(flow, TEXT).wait(WAIT)
        assert run.result == [TEXT, TEXT]
        assert [step.output for step in run.steps()] == [[TEXT, TEXT]] * 2
