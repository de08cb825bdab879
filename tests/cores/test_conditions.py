"""Flows with conditions and steps that may fail, as they run on cores that have them."""

from __future__ import annotations

import threading
from typing import Any

import psycopg
import pytest

import pgflow_starter as pgflow
from pgflow_starter.postgres.stores.tasks import PostgresTaskStore
from pgflow_starter.testing import run_flow
from tests.support.database import opened
from tests.support.starters import running
from tests.support.waiting import eventually

Told = list[tuple[str, str, str | None]]


def told(run: pgflow.Run) -> Told:
    return [(step.slug, step.status, step.reason) for step in run.steps()]


def orders(seen: list[Any]) -> pgflow.Flow:
    """A gift for some, a slip that often fails, and what is made of both."""
    flow = pgflow.Flow("orders", max_attempts=1)
    flow.step(slug="order", if_not={"test": True}, when_unmet="fail")(lambda order, ctx: order)
    flow.step(slug="gift", depends_on=["order"], if_={"order": {"vip": True}})(lambda deps, ctx: ["a pen"])
    flow.map("gift", slug="wrap")(lambda gift, ctx: f"wrapped {gift}")

    @flow.step(depends_on=["order"], when_exhausted="skip")
    def slip(deps: Any, ctx: pgflow.TaskContext) -> str:
        if deps["order"]["paper"] is None:
            raise RuntimeError("no paper")
        return "a slip"

    flow.step(slug="fold", depends_on=["slip"], if_={"slip": "a slip"}, when_unmet="skip-cascade")(
        lambda deps, ctx: f"{deps['slip']}, folded"
    )
    flow.step(slug="seal", depends_on=["fold"])(lambda deps, ctx: deps)

    @flow.step(depends_on=["gift", "slip", "wrap"])
    def parcel(deps: Any, ctx: pgflow.TaskContext) -> list[str]:
        seen.append(deps)
        return sorted(deps)

    return flow


@pytest.mark.parametrize("lane", ["auto", "off"])
def test_a_skipped_dependency_is_an_absent_key_and_the_step_says_why(newer_database: str, lane: str) -> None:
    seen: list[Any] = []
    flow = orders(seen)
    with running(newer_database, flows=[flow], fast_lane=lane) as starter:
        client = starter.client
        whole = client.start_flow(flow, {"vip": True, "paper": "white"}).wait(20)
        bare = client.start_flow(flow, {"vip": False, "paper": None}).wait(20)
        (latest, _) = client.recent_runs()
        assert (whole.status, whole.output) == (
            "completed",
            {"parcel": ["gift", "slip", "wrap"], "seal": {"fold": "a slip, folded"}},
        )
        assert (bare.status, bare.output, bare.error) == ("completed", {"parcel": ["wrap"]}, None)
        assert seen == [{"gift": ["a pen"], "slip": "a slip", "wrap": ["wrapped a pen"]}, {"wrap": []}]
        assert {reason for _, _, reason in told(whole)} == {None}
        assert told(bare) == [
            ("order", "completed", None),
            ("gift", "skipped", "condition_unmet"),
            ("wrap", "completed", None),
            ("slip", "skipped", "handler_failed"),
            ("fold", "skipped", "condition_unmet"),
            ("seal", "skipped", "dependency_skipped"),
            ("parcel", "completed", None),
        ]
        assert told(bare) == [(step.slug, step.status, step.reason) for step in latest.steps]
        slip = bare.steps()[3]
        assert slip.error is not None
        assert slip.error.startswith("RuntimeError: no paper")


def test_a_condition_that_fails_the_run_is_its_error(newer_database: str) -> None:
    flow = orders([])
    with running(newer_database, flows=[flow]) as starter:
        run = starter.client.start_flow(flow, {"test": True}).wait(20)
        assert (run.status, run.error) == ("failed", "Condition not met (step 'order')")
        assert [step.status for step in run.steps()] == ["failed", *["created"] * 6]
        assert run.steps()[0].error == "Condition not met"


def test_the_error_of_a_run_is_none_of_a_step_that_was_skipped(newer_database: str) -> None:
    flow = pgflow.Flow("short", max_attempts=1)

    @flow.step(when_exhausted="skip")
    def first(given: Any, ctx: pgflow.TaskContext) -> None:
        raise RuntimeError("this fails no run")

    flow.step(slug="second", depends_on=["first"], if_={"first": None}, when_unmet="fail")(lambda deps, ctx: None)
    with running(newer_database, flows=[flow]) as starter:
        run = starter.client.start_flow(flow).wait(20)
    assert (run.status, run.error) == ("failed", "Condition not met (step 'second')")


def test_as_the_core_has_it_no_condition_is_looked_at_behind_a_map_over_nothing(newer_database: str) -> None:
    flow = pgflow.Flow("nothing")
    flow.map(slug="each")(lambda item, ctx: item)
    flow.step(slug="never", depends_on=["each"], if_={"each": [1]})(lambda deps, ctx: deps)
    with running(newer_database, flows=[flow]) as starter:
        assert starter.client.start_flow(flow, []).wait(20).result == {"each": []}
        assert starter.client.start_flow(flow, [2]).wait(20).output is None
    assert run_flow(flow, []).result == {"each": []}
    assert run_flow(flow, [2]).output is None


def test_a_task_whose_step_was_skipped_meanwhile_is_ignored_and_not_given_back(
    newer_database: str, release: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    flow, go_on = pgflow.Flow("pairs", max_attempts=1), threading.Event()

    @flow.map(when_exhausted="skip")
    def each(item: int, ctx: pgflow.TaskContext) -> None:
        if item == 0:
            raise RuntimeError("one of them")
        go_on.wait(20)

    @flow.step()
    def slow(given: Any, ctx: pgflow.TaskContext) -> str:
        release.wait()
        return "done"

    with running(newer_database, flows=[flow]) as starter, opened(newer_database) as database:
        run = starter.client.start_flow(flow, [1, 0])
        eventually(lambda: run.steps()[0].status == "skipped")
        go_on.set()
        eventually(lambda: [r for r in caplog.records if "was ignored" in r.getMessage()])
        (worker,) = starter.workers()
        assert worker.worker_id is not None
        held = PostgresTaskStore(database).started_by([worker.worker_id])
        release.set()
        assert run.wait(20).output == {"slow": "done"}
    assert [task.step_slug for _, task in held] == ["slow"]


def test_a_job_starts_when_its_delay_has_passed(newer_database: str) -> None:
    @pgflow.job("late", start_delay=1)
    def late(message: Any, ctx: pgflow.TaskContext) -> Any:
        return message

    with running(newer_database, jobs=[late]) as starter:
        run = starter.client.enqueue(late, 7).wait(20)
    assert run.result == 7
    assert run.started_at is not None
    assert run.ended_at is not None
    assert (run.ended_at - run.started_at).total_seconds() >= 1


@pytest.mark.parametrize("many", [False, True])
def test_what_follows_a_step_left_out_at_the_beginning_begins_later_too(newer_database: str, many: bool) -> None:
    flow = pgflow.Flow("left")
    flow.step(slug="first", if_={"a": 1}, when_unmet="skip")(lambda given, ctx: given)
    flow.step(slug="second", depends_on=["first"])(lambda given, ctx: given)
    with pgflow.PgflowClient(newer_database) as client, psycopg.connect(newer_database) as connection:
        for given in ({"a": 1}, {"a": 2}):
            client.start_flows(flow, [given], delay=3600) if many else client.start_flow(flow, given, delay=3600)
        hidden = "select message ->> 'step_slug', vt > now() + interval '3000 s' from pgmq.q_left order by 1"
        assert connection.execute(hidden).fetchall() == [("first", True), ("second", True)]
