"""Flows that another runtime compiled, with what only newer cores have: we work in them all the same."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg.types.json import Jsonb

import pgflow_starter as pgflow
from tests.cores.stand_in import Admin
from tests.support.starters import await_state, running

Seen = list[tuple[Any, Any]]


def _step(slug: str, *dependencies: str, kind: str = "single") -> dict[str, Any]:
    undefined = {"defined": False}
    return {
        "slug": slug,
        "stepType": kind,
        "dependencies": list(dependencies),
        "whenUnmet": "skip",
        "whenExhausted": "fail",
        "requiredInputPattern": undefined,
        "forbiddenInputPattern": undefined,
    }


def _shape() -> Jsonb:
    """The flow as another runtime tells it."""
    steps = [
        _step("order"),
        _step("gift", "order"),
        _step("lines", "order"),
        _step("wrap", "lines", kind="map"),
        _step("parcel", "gift", "wrap"),
    ]
    return Jsonb({"steps": steps, "options": {"maxAttempts": 2, "baseDelay": 0, "timeout": 30}})


FOR_VIPS = {"order": {"vip": True}}


def _shipping() -> tuple[pgflow.Flow, Seen]:
    """The same flow here, and what its last handler was given."""
    flow = pgflow.Flow("shipping", max_attempts=2, base_delay=0, timeout=30)
    seen: Seen = []
    flow.step(slug="order")(lambda given, ctx: given)
    flow.step(slug="gift", depends_on=["order"])(lambda given, ctx: "a pen")
    flow.step(slug="lines", depends_on=["order"])(lambda given, ctx: given["order"]["lines"])
    flow.map(slug="wrap", array="lines")(lambda line, ctx: f"wrapped {line}")

    @flow.step(depends_on=["gift", "wrap"])
    def parcel(given: Any, ctx: pgflow.TaskContext) -> Any:
        seen.append((given, ctx.flow_input))
        return sorted(given)

    return flow, seen


@pytest.fixture
def other(newer_database: str) -> Iterator[Admin]:
    """The other runtime's connection; it has compiled the flow."""
    with psycopg.connect(newer_database, autocommit=True) as connection:
        assert _compiled(connection) == "compiled"
        yield connection


def _condition(connection: Admin, flow: str, step: str, pattern: Any) -> None:
    """Give a step a condition, from now on: whoever registers the flow while it has one is refused."""
    connection.execute(
        "update pgflow.steps set required_input_pattern = %s where flow_slug = %s and step_slug = %s",
        (Jsonb(pattern), flow, step),
    )


def _compiled(connection: Admin) -> object:
    """What the newer core answers to the other runtime's wish for the flow."""
    row = connection.execute("select pgflow.ensure_flow_compiled('shipping', %s)->>'status'", (_shape(),)).fetchone()
    assert row is not None
    return row[0]


def _states(connection: Admin, run_id: UUID) -> dict[object, object]:
    rows = connection.execute(
        "select step_slug, status from pgflow.step_states where run_id = %s", (run_id,)
    ).fetchall()
    return {row[0]: row[1] for row in rows}


def test_a_flow_that_another_runtime_compiled_runs_here_and_is_left_as_it_is(newer_database: str, other: Admin) -> None:
    flow, seen = _shipping()
    given = {"vip": True, "lines": [1, 2]}
    with running(newer_database, flows=[flow]) as starter:
        run = starter.client.start_flow(flow, given).wait(20)
        assert (run.status, run.output) == ("completed", {"parcel": ["gift", "wrap"]})
    assert seen == [({"gift": "a pen", "wrap": ["wrapped 1", "wrapped 2"]}, given)]
    assert _compiled(other) == "verified"


def test_a_flow_that_we_compiled_is_verified_by_another_runtime(newer_database: str) -> None:
    flow, _ = _shipping()
    with (
        running(newer_database, flows=[flow]) as starter,
        psycopg.connect(newer_database, autocommit=True) as connection,
    ):
        starter.await_ready(20)
        assert _compiled(connection) == "verified"


def test_a_flow_that_another_runtime_compiled_in_another_shape_is_told_and_not_touched(
    newer_database: str, other: Admin
) -> None:
    flow = pgflow.Flow("shipping")
    flow.step(slug="order")(lambda given, ctx: given)
    with running(newer_database, flows=[flow]) as starter:
        state = await_state(starter, flow, lambda s: s.last_error is not None)
        assert "in the database only" in str(state.last_error)
    assert _compiled(other) == "verified"


def test_a_skipped_step_is_no_key_in_its_dependents_input_and_the_run_completes(
    newer_database: str, other: Admin
) -> None:
    flow, seen = _shipping()
    given = {"vip": False, "lines": [1]}
    with running(newer_database, flows=[flow]) as starter:
        starter.await_ready(20)
        _condition(other, "shipping", "gift", FOR_VIPS)
        run = starter.client.start_flow(flow, given).wait(20)
        assert (run.status, run.output, run.error) == ("completed", {"parcel": ["wrap"]}, None)
        (gift,) = [step for step in run.steps() if step.slug == "gift"]
        assert (gift.status, gift.output, gift.started_at) == ("skipped", None, None)
        assert gift.ended_at is not None
        after = starter.client.start_flow(flow, {"vip": True, "lines": []}).wait(20)
        assert after.output == {"parcel": ["gift", "wrap"]}
    assert seen == [({"wrap": ["wrapped 1"]}, given), ({"gift": "a pen", "wrap": []}, {"vip": True, "lines": []})]
    assert _states(other, run.id) == {
        "order": "completed",
        "gift": "skipped",
        "lines": "completed",
        "wrap": "completed",
        "parcel": "completed",
    }


def test_a_run_whose_steps_are_all_skipped_or_done_is_waited_for_as_any_other(newer_database: str) -> None:
    flow = pgflow.Flow("short")
    flow.step(slug="first")(lambda given, ctx: 1)
    flow.step(slug="second", depends_on=["first"])(lambda given, ctx: 2)
    with psycopg.connect(newer_database, autocommit=True) as connection:
        connection.execute("select pgflow.create_flow('short')")
        connection.execute("select pgflow.add_step('short', 'first')")
        connection.execute("select pgflow.add_step('short', 'second', array['first'])")
        with running(newer_database, flows=[flow]) as starter:
            starter.await_ready(20)
            _condition(connection, "short", "second", {"first": 2})
            run = starter.client.start_flow(flow).wait(20)
    assert (run.status, run.error) == ("completed", None)
    assert run.finished
