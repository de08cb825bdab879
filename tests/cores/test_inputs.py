"""Handlers see one shape of input, whatever the core hands over."""

from __future__ import annotations

import json
from typing import Any

import psycopg

import pgflow_starter as pgflow
from tests.cores.stand_in import Admin, has, start_tasks, upgrade
from tests.support.starters import running

GIVEN = {"numbers": [3, 4], "run": "not the flow's input"}

RUN_ID = "5f1d3c3e-0000-4000-8000-000000000001"

Seen = list[tuple[str, Any, Any]]


def _arithmetic() -> tuple[pgflow.Flow, Seen]:
    """A flow with steps of every kind, and what its handlers were given."""
    flow = pgflow.Flow("arithmetic", max_attempts=1)
    seen: Seen = []

    def note(ctx: pgflow.TaskContext, given: Any) -> None:
        seen.append((f"{ctx.step_slug} {ctx.task_index}", given, ctx.flow_input))

    @flow.step()
    def numbers(given: Any, ctx: pgflow.TaskContext) -> Any:
        note(ctx, given)
        return given["numbers"]

    @flow.map(array="numbers")
    def square(number: int, ctx: pgflow.TaskContext) -> int:
        note(ctx, number)
        return number * number

    @flow.step(depends_on=["numbers", "square"])
    def total(given: Any, ctx: pgflow.TaskContext) -> Any:
        note(ctx, given)
        return sum(given["square"])

    return flow, seen


EXPECTED = [
    ("numbers 0", GIVEN, GIVEN),
    ("square 0", 3, GIVEN),
    ("square 1", 4, GIVEN),
    ("total 0", {"numbers": [3, 4], "square": [9, 16]}, GIVEN),
]


def test_root_dependent_and_map_steps_are_given_the_same_on_every_core(database: str) -> None:
    flow, seen = _arithmetic()
    with running(database, flows=[flow]) as starter:
        run = starter.client.start_flow(flow, GIVEN).wait(20)
    assert run.output == {"total": 25}
    assert sorted(seen, key=lambda s: s[0]) == EXPECTED


def test_a_root_map_is_given_elements_and_the_whole_array_as_flow_input(database: str) -> None:
    flow = pgflow.Flow("each")
    seen: list[tuple[Any, Any]] = []
    flow.map(slug="one")(lambda element, ctx: seen.append((element, ctx.flow_input)))
    elements = [{"run": 1}, None, [2]]
    with running(database, flows=[flow], max_concurrency=1) as starter:
        assert starter.client.start_flow(flow, elements).wait(20).status == "completed"
    assert sorted(seen, key=str) == sorted([(e, elements) for e in elements], key=str)


def test_inputs_that_look_like_a_cores_own_shape_come_through_as_they_are(database: str) -> None:
    @pgflow.job("odd")
    def odd(message: Any, ctx: pgflow.TaskContext) -> Any:
        return [message, ctx.flow_input]

    odd_ones: list[Any] = [None, {}, [], {"run": 1}, {"run": {"run": None}}, "text", 0, False]
    with running(database, jobs=[odd]) as starter:
        for given in odd_ones:
            assert starter.client.enqueue(odd, given).wait(20).result == [given, given]


def test_what_a_task_does_to_its_flow_input_no_other_task_sees(database: str) -> None:
    flow = pgflow.Flow("spoiling", max_attempts=1)
    seen: list[Any] = []

    def spoil(given: Any, ctx: pgflow.TaskContext) -> Any:
        assert ctx.flow_input is ctx.flow_input
        seen.append(json.dumps(ctx.flow_input))
        ctx.flow_input["numbers"].append("spoilt")
        return [1, 2, 3]

    flow.step("first")(spoil)
    flow.map("first", slug="each")(spoil)
    flow.step("last", depends_on=["each"])(spoil)
    with running(database, flows=[flow], max_concurrency=1) as starter:
        assert starter.client.start_flow(flow, {"numbers": []}).wait(20).status == "completed"
    assert seen == ['{"numbers": []}'] * 5


def test_a_run_that_was_deleted_and_started_anew_is_worked_on_with_its_own_input(admin: Admin, database: str) -> None:
    flow = pgflow.Flow("anew", max_attempts=1)
    flow.step("first")(lambda given, ctx: [1, 2])
    flow.map("first", slug="each")(lambda element, ctx: ctx.flow_input)
    with running(database, flows=[flow]) as starter:
        for given in ("old", "new"):
            run = starter.client.start_flow(flow, given, run_id=RUN_ID).wait(20)
            assert run.result == [given, given]
            for table in ("step_tasks", "step_states", "runs"):
                admin.execute(f"delete from pgflow.{table} where run_id = %s", (run.id,))


def test_a_core_upgraded_under_a_running_starter_is_worked_with_in_the_right_shape(database: str) -> None:
    flow, seen = _arithmetic()
    with running(database, flows=[flow]) as starter:
        assert starter.client.start_flow(flow, GIVEN).wait(20).output == {"total": 25}
        seen.clear()
        upgrade(database, "0.17")
        assert starter.client.start_flow(flow, GIVEN).wait(20).output == {"total": 25}
    assert sorted(seen, key=lambda s: s[0]) == EXPECTED
    with psycopg.connect(database) as connection:
        rows = connection.execute("select to_jsonb(w) from pgflow.workers w").fetchall()
        newer = has(connection, "mark_worker_stopped")
    ((gone,),) = rows
    assert (gone.get("stopped_at") is not None, gone["deprecated_at"] is not None) == (newer, not newer)


def test_what_the_cores_themselves_hand_over_differs_or_these_tests_prove_little(admin: Admin, database: str) -> None:
    with pgflow.PgflowClient(database) as client:
        client.start_flow(_arithmetic()[0], GIVEN)
    worker = "5f1d3c3e-0000-4000-8000-000000000000"
    admin.execute("insert into pgflow.workers (worker_id, queue_name, function_name) values (%s, 'a', 'a')", (worker,))
    row = admin.execute(
        f"select to_jsonb(t)::text from pgmq.read(%(queue)s, 1, 1) m, {start_tasks(admin)}",
        {"slug": "arithmetic", "queue": "arithmetic", "step": None, "worker": worker},
    ).fetchone()
    assert row is not None
    record = json.loads(str(row[0]))
    if record.keys() >= {"flow_input"}:
        assert (record["input"], record["flow_input"]) == ({}, GIVEN)
    else:
        assert record["input"] == {"run": GIVEN}
