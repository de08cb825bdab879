"""The steps of a run, as a client sees them, on every core."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

import pytest

import pgflow_starter as pgflow
from tests.support.starters import running


def test_each_step_is_told_with_its_output_in_the_flows_order(database: str) -> None:
    flow = pgflow.Flow("shop")
    flow.step(slug="root")(lambda given, ctx: [given, given + 1])
    flow.map(slug="each", array="root")(lambda item, ctx: item * 10)
    flow.step(slug="empty")(lambda given, ctx: [])
    flow.map(slug="none", array="empty")(lambda item, ctx: item)
    flow.step(slug="last", depends_on=["each"])(lambda deps, ctx: sum(deps["each"]))
    with running(database, flows=[flow]) as starter:
        run = starter.client.start_flow(flow, 1).wait(20)
        steps = run.steps()
        assert steps == starter.client.steps(str(run.id))
        details = starter.client.details(run.id, payloads=True)
        (listed,) = starter.client.runs(status="completed")
        with pytest.raises(pgflow.RunNotFoundError):
            starter.client.steps(uuid.uuid4())
    assert [(s.slug, s.status, s.output, s.tasks) for s in steps] == [
        ("root", "completed", [1, 2], 1),
        ("each", "completed", [10, 20], 2),
        ("empty", "completed", [], 1),
        ("none", "completed", [], 0),
        ("last", "completed", 30, 1),
    ]
    assert (details.run, details.steps) == (run, steps)
    assert [(t.step_slug, t.index, t.status, t.attempts) for t in details.tasks] == [
        *(("root", 0, "completed", 1), ("each", 0, "completed", 1), ("each", 1, "completed", 1)),
        *(("empty", 0, "completed", 1), ("last", 0, "completed", 1)),
    ]
    assert [(s.slug, s.status, s.tasks) for s in listed.steps] == [(s.slug, s.status, s.tasks) for s in steps]
    for step in steps:
        assert (step.remaining, step.error) == (0, None)
        assert step.ended_at is not None
        assert step.ended_at.utcoffset() == timedelta(0)


def test_a_failed_run_says_which_step_failed_and_why(database: str) -> None:
    flow = pgflow.Flow("shop", max_attempts=1)
    flow.step(slug="good")(lambda given, ctx: given)

    @flow.step(depends_on=["good"])
    def bad(deps: Any, ctx: pgflow.TaskContext) -> None:
        raise ValueError(deps["good"])

    flow.step(slug="after", depends_on=["bad"])(lambda deps, ctx: None)
    with running(database, flows=[flow]) as starter:
        run = starter.client.start_flow(flow, "no good").wait(20)
        good, failed, after = run.steps()
        bare = starter.client.details(run.id)
    assert (good.status, good.output) == ("completed", "no good")
    assert (failed.slug, failed.status, failed.output) == ("bad", "failed", None)
    assert failed.error is not None
    assert failed.error.startswith("ValueError: no good")
    assert [(t.step_slug, t.status, t.error) for t in bare.tasks] == [
        ("good", "completed", None),
        ("bad", "failed", failed.error),
    ]
    assert (bare.run.error, [step.output for step in bare.steps]) == (failed.error, [None] * 3)
    assert (after.slug, after.status, after.started_at, after.ended_at) == ("after", "created", None, None)
