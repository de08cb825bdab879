"""A run is one trace on each core, whatever makes its steps begin, skips them, or ends it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

import pgflow_starter as pgflow
from tests.cores.by_steps import shop, waiting
from tests.cores.stand_in import Admin, claim_and_die
from tests.support.starters import echo_job, running
from tests.support.waiting import eventually
from tests.telemetry.heard import Heard, attributes

WAIT = 30.0
QUICK = {"heartbeat_interval": 0.1, "stale_threshold": 0.3, "recovery_interval": 0.1}


@pytest.fixture
def heard() -> Iterator[Heard]:
    """OpenTelemetry's providers, and what they were told."""
    heard = Heard()
    yield heard
    heard.close()


def trace_of(heard: Heard, run: pgflow.Run) -> Counter[str]:
    """What is below its sender's span, once it is told of its end: a step's slug for each attempt, and the end."""
    eventually(
        lambda: [s for s in heard.spans(f"run {run.flow_slug}") if attributes(s)["pgflow.run.id"] == str(run.id)]
    )
    spans = [s for s in heard.spans() if attributes(s).get("pgflow.run.id") == str(run.id)]
    (send,) = [s for s in spans if s.name.startswith("send ")]
    assert {s.parent.span_id for s in spans if s is not send and s.parent} == {send.context.span_id}
    return Counter(str(attributes(s).get("pgflow.step", s.name)) for s in spans if s is not send)


@pytest.mark.parametrize("lane", ["auto", "off"])
def test_each_step_and_each_attempt_is_in_it(database: str, heard: Heard, lane: str) -> None:
    flow, _ = shop()
    with running(database, flows=[flow], fast_lane=lane, tracer_provider=heard.tracer_provider) as starter:
        runs = [starter.client.start_flow(flow, [1, 2, n]) for n in range(3, 8)]
        assert {run.wait(WAIT).status for run in runs} == {"completed"}
        traces = [trace_of(heard, run) for run in runs]
    assert traces == [{"lines": 1, "price": 4, "total": 1, "run shop": 1}] * 5


def test_steps_with_queues_of_their_own_are_in_it(queues_database: str, by_steps: Admin, heard: Heard) -> None:
    flow, _ = shop()
    with running(queues_database, flows=[flow], tracer_provider=heard.tracer_provider) as starter:
        runs = [starter.client.start_flow(flow, [1, 2, n]) for n in range(3, 6)]
        assert {run.wait(WAIT).status for run in runs} == {"completed"}
        traces = [trace_of(heard, run) for run in runs]
        cancelled = starter.client.start_flow(flow, [1], delay=3600)
        starter.client.cancel(cancelled.id)
        assert trace_of(heard, cancelled) == {"run shop": 1}
    assert traces == [{"lines": 1, "price": 4, "total": 1, "run shop": 1}] * 3
    assert waiting(by_steps) == [0, 0, 0]


@pytest.mark.parametrize("lane", ["auto", "off"])
def test_what_begins_behind_steps_that_were_left_out_is_in_it(newer_database: str, heard: Heard, lane: str) -> None:
    flow = pgflow.Flow("orders", max_attempts=1)
    flow.step(slug="order", if_not={"test": True}, when_unmet="fail")(lambda order, ctx: order)
    flow.step(slug="gift", depends_on=["order"], if_={"order": {"vip": True}})(lambda deps, ctx: ["a pen"])
    flow.map("gift", slug="wrap")(lambda gift, ctx: gift)

    @flow.step(depends_on=["order"], when_exhausted="skip")
    def slip(deps: Any, ctx: pgflow.TaskContext) -> str:
        raise RuntimeError("no paper")

    flow.step(slug="parcel", depends_on=["wrap", "slip"])(lambda deps, ctx: sorted(deps))
    with running(newer_database, flows=[flow], fast_lane=lane, tracer_provider=heard.tracer_provider) as starter:
        vip, bare, refused = (
            starter.client.start_flow(flow, given).wait(WAIT) for given in ({"vip": True}, {}, {"test": True})
        )
        assert (vip.status, bare.status, refused.status) == ("completed", "completed", "failed")
        steps = {"order": 1, "slip": 1, "parcel": 1, "run orders": 1}
        assert trace_of(heard, vip) == {**steps, "gift": 1, "wrap": 1}
        assert trace_of(heard, bare) == steps
        assert trace_of(heard, refused) == {"run orders": 1}


def test_the_end_of_one_whose_worker_died_is_in_it(database: str, admin: Admin, heard: Heard) -> None:
    job = echo_job("poison", max_attempts=1, timeout=600)
    with pgflow.PgflowClient(database, tracer_provider=heard.tracer_provider) as client:
        run = client.enqueue(job)
        claim_and_die(admin, "poison")
        with running(database, jobs=[job], tracer_provider=heard.tracer_provider, **QUICK):
            assert run.wait(WAIT).status == "failed"
            assert trace_of(heard, run) == {"run poison": 1}


@contextmanager
def abandoned(conninfo: str, heard: Heard) -> Iterator[tuple[Admin, pgflow.Flow, pgflow.Run[Any]]]:
    """A traced run whose first step is skipped when it fails, as it does for good: its worker has died."""
    flow = pgflow.Flow("lenient", max_attempts=1, timeout=600)
    flow.step(slug="first", when_exhausted="skip")(lambda given, ctx: given)
    flow.step(slug="then", depends_on=["first"])(lambda deps, ctx: sorted(deps))
    with (
        psycopg.connect(conninfo, autocommit=True) as admin,
        pgflow.PgflowClient(conninfo, tracer_provider=heard.tracer_provider) as client,
    ):
        run = client.start_flow(flow)
        claim_and_die(admin, "lenient")
        yield admin, flow, run


def test_what_begins_when_a_worker_died_for_the_last_time_is_in_it(newer_database: str, heard: Heard) -> None:
    with (
        abandoned(newer_database, heard) as (_, flow, run),
        running(newer_database, flows=[flow], tracer_provider=heard.tracer_provider, **QUICK),
    ):
        assert run.wait(WAIT).status == "completed"
        assert trace_of(heard, run) == {"then": 1, "run lenient": 1}


def test_a_dead_workers_task_is_recovered_where_its_trace_cannot_be_carried_on(
    newer_database: str, heard: Heard
) -> None:
    with abandoned(newer_database, heard) as (admin, flow, run):
        admin.execute("create function public.no() returns trigger language plpgsql as 'begin raise ''no''; end'")
        admin.execute(
            "create trigger no before update of headers on pgmq.q_lenient for each row execute function public.no()"
        )
        with running(newer_database, flows=[flow], **QUICK):
            assert run.wait(WAIT).status == "completed"
