"""What a core has of what we can do, as the page on cores tells it in its table."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

import pgflow_starter as pgflow
from pgflow_starter.core.modules import definition_of
from pgflow_starter.errors import NotInstalledError
from pgflow_starter.postgres.stores.fast_lane.known_cores import PROVEN
from pgflow_starter.postgres.stores.features import detect
from pgflow_starter.postgres.stores.flows import compile_flow
from tests.cores.stand_in import Admin
from tests.support.pages import DOCS
from tests.support.starters import STRATEGIES, echo_job, running

WAIT = 30.0
HEADING = "## Which core has what"


def runs(database: str, admin: Admin) -> str:
    """Whether a job, a flow and a map end as they should, by each strategy."""
    flow = pgflow.Flow("squares")
    flow.step(slug="given")(lambda numbers, ctx: numbers)
    flow.map("given", slug="square")(lambda number, ctx: number**2)
    job = echo_job()
    for strategy in STRATEGIES:
        with running(database, flows=[flow], jobs=[job], signal_strategy=strategy) as starter:
            assert starter.client.start_flow(flow, [1, 2, 3]).wait(WAIT).result == [1, 4, 9]
            assert starter.client.enqueue(job, 7).wait(WAIT).result == 7
    return "yes"


def conditions(database: str, admin: Admin) -> str:
    """Whether a flow that has some can be compiled; else it is refused."""
    flow = pgflow.Flow("vip")
    flow.step(slug="lounge", if_={"vip": True})(lambda given, ctx: given)
    with psycopg.connect(database, autocommit=True) as connection:
        try:
            compile_flow(connection, definition_of(flow))
        except NotInstalledError as error:
            return "refused" if "0.14" in str(error) else str(error)
    return "yes"


def step_queues(database: str, admin: Admin) -> str:
    """Whether a flow that another runtime compiled with a queue for each step is taken as it is."""
    if not detect(admin).tasks_have_queues:
        return "has none"
    shape = {"steps": [{"slug": "only", "stepType": "single", "dependencies": []}], "options": {}}
    routes = [{"stepSlug": "only", "queueName": "far__only"}]
    admin.execute("select pgflow.ensure_flow_compiled('far', %s, 'step', %s)", (Jsonb(shape), Jsonb(routes)))
    flow = pgflow.Flow("far")
    flow.step(slug="only")(lambda given, ctx: given)
    with psycopg.connect(database, autocommit=True) as connection:
        assert compile_flow(connection, definition_of(flow)).queues == ("far__only",)
    return "yes"


def cancels(database: str, admin: Admin) -> str:
    """Whether tasks can be cancelled or skipped."""
    return "yes" if detect(admin).cancels else "has none"


ROWS: dict[str, Callable[[str, Admin], str]] = {
    "flows, jobs, maps, by polling and by notification": runs,
    "conditions, and steps a run may go without": conditions,
    "tasks that are cancelled or skipped": cancels,
    "a queue for each step, as another runtime compiles it": step_queues,
}
FAST_LANE = "the fast lane"


@pytest.fixture(scope="module")
def told() -> dict[str, dict[str, str]]:
    """What the page says, by row and core."""
    page = (DOCS / "explanation/cores.md").read_text(encoding="utf-8")
    lines = page.partition(HEADING)[2].strip().splitlines()
    head, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    return {row[0]: dict(zip(head[1:], row[1:], strict=True)) for row in rows}


@pytest.mark.parametrize("row", ROWS)
def test_the_table_says_what_is_so(
    database: str, core: str, admin: Admin, row: str, told: dict[str, dict[str, str]]
) -> None:
    version: Any = re.search(r"[0-9.]+$", core)
    column = max((known for known in told[row] if version[0].startswith(known)), key=len)
    assert ROWS[row](database, admin) == told[row][column]


def test_the_table_has_a_row_for_all_that_is_asked_and_no_other(told: dict[str, dict[str, str]]) -> None:
    assert [*told] == [*ROWS, FAST_LANE]


def test_the_fast_lane_is_told_for_the_cores_that_it_was_proven_on(told: dict[str, dict[str, str]]) -> None:
    proven = [version for version, _ in PROVEN.values()]
    expected = {
        core: " ".join(["on", *(v for v in proven if v.startswith(core) and v != core)])
        if any(v.startswith(core) for v in proven)
        else "off"
        for core in told[FAST_LANE]
    }
    assert told[FAST_LANE] == expected
