"""What `run_flow` says of a flow is what pgflow's SQL core makes of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

import pgflow_starter as pgflow
from pgflow_starter.postgres.embedded.server import EmbeddedPostgres
from pgflow_starter.testing import run_flow
from tests.support.databases import fresh_database
from tests.support.starters import running
from tests.support.waiting import eventually
from tests.testing.both_ways import Seen, on_the_real_core, without_database
from tests.testing.cases import CASES, Case

_WAITS = "select message->>'step_slug', extract(epoch from vt - now()) from pgmq.q_slow"


@pytest.fixture(scope="module")
def real(server: EmbeddedPostgres, template: str) -> Iterator[dict[str, Seen]]:
    """Every case as the real core ran it."""
    with fresh_database(server, template) as conninfo:
        yield on_the_real_core(conninfo, CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.slug)
def test_a_flow_comes_out_as_on_the_real_core(case: Case, real: dict[str, Seen]) -> None:
    ours, theirs = without_database(case), real[case.slug]
    if case.slug == "permanent":
        # pgflow has no failing at once: the attempts that were never made are counted as well.
        theirs = dataclasses.replace(theirs, tasks=[(*t[:3], 1, *t[4:]) for t in theirs.tasks])
    assert ours == theirs


def test_some_of_the_random_graphs_are_completed_and_some_fail(real: dict[str, Seen]) -> None:
    assert {seen.status for slug, seen in real.items() if slug.startswith("random_")} == {"completed", "failed"}


def test_an_input_that_no_map_can_go_over_is_refused_as_by_the_client(database: str) -> None:
    flow = pgflow.Flow("squares")
    flow.map(slug="square")(lambda n, ctx: n * n)
    with pgflow.PgflowClient(database) as client:
        for given in ({"no": "array"}, None, "text", 1.5, False):
            with pytest.raises(pgflow.DatabaseError) as theirs:
                client.start_flow(flow, given)
            with pytest.raises(pgflow.DatabaseError) as ours:
                run_flow(flow, given)
            assert str(ours.value) == str(theirs.value)
            assert vars(ours.value) == vars(theirs.value)


def test_delays_are_those_that_the_core_sets(database: str) -> None:
    flow = pgflow.Flow("slow", base_delay=100)
    flow.step("late", start_delay=500)(lambda given, ctx: None)

    @flow.step(max_attempts=4)
    def retried(given: object, ctx: pgflow.TaskContext) -> None:
        if ctx.attempt < 4:
            raise RuntimeError

    run = run_flow(flow).raise_for_status()
    assert run.steps["late"].tasks[0].started_at == (500,)
    began = run.steps["retried"].tasks[0].started_at
    with running(database, flows=[flow]) as starter, psycopg.connect(database, autocommit=True) as admin:
        for attempt in (1, 2, 3):
            delay = admin.execute("select pgflow.calculate_retry_delay(100, %s)", (attempt,)).fetchone()
            assert delay == (began[attempt] - began[attempt - 1],)
        starter.client.start_flow(flow)
        eventually(lambda: admin.execute("select from pgflow.step_tasks where error_message is not null").fetchall())
        waits: dict[str, Any] = dict(admin.execute(_WAITS).fetchall())
    assert 480 < waits["late"] <= 500
    assert 180 < waits["retried"] <= 200
