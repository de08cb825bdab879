"""A run is one trace: each step of it is below the span that sent it, whoever does it, and one span tells its end."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import SpanKind

import pgflow_starter as pgflow
from pgflow_starter.core.modules import definition_of
from pgflow_starter.core.task import Ignored, Outcome, OutcomeKind
from pgflow_starter.postgres.stores.flows import PostgresFlowStore, compile_flow
from pgflow_starter.postgres.stores.tasks import PostgresTaskStore
from tests.support import programs
from tests.support.database import NoScope, opened
from tests.support.starters import STRATEGIES, echo_job, running
from tests.support.statements import recorded
from tests.support.waiting import eventually
from tests.telemetry import traced_worker
from tests.telemetry.heard import Heard, attributes
from tests.telemetry.receiver import Receiver, facts, receiving
from tests.telemetry.shop import shop

WAIT = 30.0
HEADERS = """
select distinct s.step_slug, coalesce(array(select jsonb_object_keys(a.headers) order by 1), '{}')
from pgmq.a_shop a join pgflow.step_tasks s on s.message_id = a.msg_id order by 1
"""
TRACED = [("lines", ["traceparent"]), ("price", ["traceparent"]), ("total", ["traceparent"])]


def of_run(heard: Heard, run: pgflow.Run) -> list[ReadableSpan]:
    """The spans that name it, once it is told of its end."""
    eventually(
        lambda: [s for s in heard.spans(f"run {run.flow_slug}") if attributes(s)["pgflow.run.id"] == str(run.id)]
    )
    return [s for s in heard.spans() if attributes(s).get("pgflow.run.id") == str(run.id)]


def below_its_sender(spans: Sequence[ReadableSpan]) -> Counter[str]:
    """The names of a run's spans, of which one is all others' parent."""
    (send,) = [s for s in spans if s.name.startswith("send ")]
    assert {s.parent.span_id for s in spans if s is not send and s.parent} == {send.context.span_id}
    assert {s.context.trace_id for s in spans} == {send.context.trace_id}
    return Counter(s.name for s in spans)


@contextmanager
def working(database: str, receiver: Receiver, instance: str) -> Iterator[None]:
    """A process of its own with a worker of the shop, which ends well."""
    with programs.running("-m", traced_worker.__name__, database, receiver.url, instance) as process:
        yield
        process.terminate()
        assert process.wait(WAIT) == 0


def test_a_run_over_two_processes_with_a_retry_is_one_trace(database: str) -> None:
    with receiving() as receiver, psycopg.connect(database, autocommit=True) as admin:
        compile_flow(admin, definition_of(shop(start_delay=3600)))
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(f"{receiver.url}/v1/traces")))
        with pgflow.PgflowClient(database, tracer_provider=provider) as client:
            with provider.get_tracer("test").start_as_current_span("checkout"):
                run = client.start_flow("shop", [1, 2])
            with working(database, receiver, "first"):
                eventually(lambda: run.steps()[0].status == "completed")
            admin.execute("update pgmq.q_shop set vt = now()")
            with working(database, receiver, "second"):
                assert run.wait(WAIT).result == 6
        provider.shutdown()
    (checkout,) = [s for s in receiver.spans if s.name == "checkout"]
    ours = [s for s in receiver.spans if s.trace_id == checkout.trace_id]
    assert Counter(s.name for s in ours) == {"checkout": 1, "send shop": 1, "process shop": 5, "run shop": 1}
    (send,) = [s for s in ours if s.name == "send shop"]
    assert {s.parent_span_id for s in ours if s.name in ("process shop", "run shop")} == {send.span_id}
    assert send.parent_span_id == checkout.span_id
    assert done_by(receiver) == {
        "first": [("lines", 1, "failed"), ("lines", 2, "completed")],
        "second": [("price", 1, "completed"), ("price", 1, "completed"), ("total", 1, "completed")],
    }


def done_by(receiver: Receiver) -> dict[str, list[tuple[str, int, str]]]:
    """By process the tasks that it did, with their attempts and outcomes."""
    found: dict[str, list[tuple[str, int, str]]] = {}
    for resource in (r for request in receiver.requests["/v1/traces"] for r in request.resource_spans):
        spans = [span for scope in resource.scope_spans for span in scope.spans if span.name == "process shop"]
        told = [facts(s.attributes) for s in sorted(spans, key=lambda s: s.start_time_unix_nano)]
        done = [(f["pgflow.step"], f["pgflow.task.attempt"], f["pgflow.task.outcome"]) for f in told]
        if done:
            found.setdefault(facts(resource.resource.attributes)["service.instance.id"], []).extend(done)
    return found


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("lane", ["auto", "off"])
def test_each_run_of_many_is_a_trace_of_its_own(database: str, heard: Heard, lane: str, strategy: str) -> None:
    tracer, flow = heard.tracer_provider.get_tracer("test"), shop()
    with running(
        database, flows=[flow], signal_strategy=strategy, fast_lane=lane, tracer_provider=heard.tracer_provider
    ) as starter:
        starter.await_ready(WAIT)
        runs = list[pgflow.Run]()
        for number in range(8):
            with tracer.start_as_current_span("checkout"):
                runs.append(starter.client.start_flow(flow, [number, 1, 2]))
        assert [run.wait(WAIT).result for run in runs] == [6 + 2 * number for number in range(8)]
        state = starter.status().fast_lane
        assert state is not None
        assert state.on == (lane == "auto")
        traces = [of_run(heard, run) for run in runs]
    assert [below_its_sender(spans) for spans in traces] == [{"send shop": 1, "process shop": 6, "run shop": 1}] * 8
    assert len({spans[0].context.trace_id for spans in traces}) == 8


def test_its_last_span_is_as_long_as_the_run_and_says_how_it_ended(database: str, heard: Heard) -> None:
    flow = shop()
    with running(database, flows=[flow], tracer_provider=heard.tracer_provider) as starter:
        run = starter.client.start_flow(flow, [1]).wait(WAIT)
        (last,) = [s for s in of_run(heard, run) if s.name == "run shop"]
    assert run.started_at is not None
    assert run.ended_at is not None
    assert (last.kind, last.status.is_unset) == (SpanKind.INTERNAL, True)
    assert dict(attributes(last)) == {
        "pgflow.run.id": str(run.id),
        "pgflow.flow": "shop",
        "pgflow.run.status": "completed",
    }
    assert (last.start_time or 0) / 1e9 == pytest.approx(run.started_at.timestamp(), abs=1e-5)
    assert (last.end_time or 0) / 1e9 == pytest.approx(run.ended_at.timestamp(), abs=1e-5)


@pytest.mark.parametrize("lane", ["auto", "off"])
def test_runs_that_fail_have_one_that_says_so(database: str, heard: Heard, lane: str) -> None:
    @pgflow.job("breaks", max_attempts=1)
    def breaks(message: Any, ctx: pgflow.TaskContext) -> None:
        raise RuntimeError(message)

    flow = pgflow.Flow("halfway", max_attempts=1)
    flow.step(slug="good")(lambda given, ctx: given)
    flow.step(slug="bad", depends_on=["good"])(lambda deps, ctx: 1 / deps["good"])
    with running(
        database, jobs=[breaks], flows=[flow], fast_lane=lane, tracer_provider=heard.tracer_provider
    ) as starter:
        jobs = starter.client.enqueue_many(breaks, ["secret"] * 5)
        flows = [starter.client.start_flow(flow, 0) for _ in range(3)]
        assert {run.wait(WAIT).status for run in (*jobs, *flows)} == {"failed"}
        spans = [*heard.await_spans("run breaks", 5), *heard.await_spans("run halfway", 3)]
    assert sorted(attributes(s)["pgflow.run.id"] for s in spans) == sorted(str(run.id) for run in (*jobs, *flows))
    assert {s.status.is_ok or s.status.is_unset for s in spans} == {False}
    assert {attributes(s)["error.type"] for s in spans} == {"RunFailedError"}
    assert "secret" not in str([(attributes(s), s.status.description, s.events) for s in spans])


def test_a_run_that_is_cancelled_has_one_from_who_cancelled_it(database: str, heard: Heard) -> None:
    job = echo_job()
    with pgflow.PgflowClient(database, tracer_provider=heard.tracer_provider) as client:
        run = client.enqueue(job, 1)
        for _ in range(2):  # the second time it has ended
            client.cancel(run.id)
        assert below_its_sender(of_run(heard, run)) == {"send echo": 1, "run echo": 1}
        untraced = pgflow.PgflowClient(database)
        with untraced:
            other = untraced.enqueue(job, 1)
        client.cancel(other.id)
    assert len(heard.spans("run echo")) == 1


def test_a_run_with_nothing_to_do_has_one_from_who_started_it(database: str, heard: Heard) -> None:
    flow = pgflow.Flow("squares")
    flow.map(slug="square")(lambda number, ctx: number * number)
    with pgflow.PgflowClient(database, tracer_provider=heard.tracer_provider) as client:
        run = client.start_flow(flow, [])
        again = client.start_flow(flow, [], run_id=run.id)
        assert (run.status, again.status) == ("completed", "completed")
    (told,) = heard.spans("run squares")
    assert told.parent is not None
    assert told.parent.span_id == heard.spans("send squares")[0].context.span_id


def test_a_run_that_may_be_rolled_back_is_not_told_to_have_ended(database: str, heard: Heard) -> None:
    flow = pgflow.Flow("squares")
    flow.map(slug="square")(lambda number, ctx: number * number)
    with (
        pgflow.PgflowClient(database, tracer_provider=heard.tracer_provider) as client,
        psycopg.connect(database) as callers,
    ):
        assert client.start_flow(flow, [], connection=callers).status == "completed"
        callers.rollback()
    assert [s.name for s in heard.spans()] == ["send squares"]


def test_how_long_nobody_came_for_a_message_is_told_of_each_attempt(database: str, heard: Heard) -> None:
    job = echo_job()
    with pgflow.PgflowClient(database, tracer_provider=heard.tracer_provider) as client:
        runs = client.enqueue_many(job, range(3))
        with psycopg.connect(database, autocommit=True) as admin:
            admin.execute("update pgmq.q_echo set vt = now() - interval '7 s'")
        with running(database, jobs=[job], tracer_provider=heard.tracer_provider, fast_lane="off"):
            spans = heard.await_spans("process echo", 3)
        with running(database, jobs=[job], tracer_provider=heard.tracer_provider):
            client.enqueue(job, 4)
            (later,) = [s for s in heard.await_spans("process echo", 4) if s not in spans]
        assert {run.wait(WAIT).status for run in runs} == {"completed"}
    assert all(7.0 <= attributes(s)["pgflow.task.wait"] < WAIT for s in spans)
    assert 0.0 <= attributes(later)["pgflow.task.wait"] < WAIT


@pytest.mark.parametrize("lane", ["auto", "off"])
def test_who_does_not_trace_carries_on_what_others_do(database: str, heard: Heard, lane: str) -> None:
    flow = shop()
    with pgflow.PgflowClient(database, tracer_provider=heard.tracer_provider) as client:
        first = client.start_flow(flow, [1, 2])
        client.cancel(first.id)
        runs = [client.rerun(first.id) for _ in range(5)]
        with running(database, flows=[flow], fast_lane=lane):
            assert {run.wait(WAIT).result for run in runs} == {6}
    with psycopg.connect(database) as admin:
        admin.execute("delete from pgmq.a_shop where msg_id = 1")  # the first's
        told = admin.execute(HEADERS).fetchall()
    assert told == [("lines", ["pgflow_rerun_of", "traceparent"]), *TRACED[1:]]
    assert len(heard.spans("run shop")) == 1


@pytest.mark.parametrize("lane", ["auto", "off"])
def test_where_nobody_traces_nothing_is_written_and_nothing_is_asked(database: str, lane: str) -> None:
    flow = shop()
    with recorded() as statements, running(database, flows=[flow], fast_lane=lane) as starter:
        runs = starter.client.start_flows(flow, [[1, 2]] * 5)
        assert {run.wait(WAIT).result for run in runs} == {6}
        starter.client.cancel(starter.client.start_flow(flow, [1], delay=3600).id)
    with psycopg.connect(database) as admin:
        assert admin.execute("select count(headers) from pgmq.a_shop").fetchone() == (0,)
    assert [s.where for s in statements if "carr" in s.text or " headers = " in s.text] == []


def test_a_trace_that_cannot_be_carried_on_costs_no_outcome(database: str, heard: Heard) -> None:
    flow = shop()
    with pgflow.PgflowClient(database, tracer_provider=heard.tracer_provider) as client:
        run = client.start_flow(flow, [1, 2])
        with psycopg.connect(database, autocommit=True) as admin:
            admin.execute("create function public.no() returns trigger language plpgsql as 'begin raise ''no''; end'")
            admin.execute(
                "create trigger no before update of headers on pgmq.q_shop for each row execute function public.no()"
            )
        with running(database, flows=[flow], fast_lane="off"):
            assert run.wait(WAIT).result == 6


def test_an_exporter_that_hangs_on_the_end_of_one_keeps_no_other_waiting(
    database: str, release: threading.Event
) -> None:
    hung = threading.Event()

    class Hangs(SpanExporter):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            if any(span.name == "run echo" for span in spans):
                hung.set()
                release.wait()
            return SpanExportResult.SUCCESS

    provider, job = TracerProvider(shutdown_on_exit=False), echo_job()
    provider.add_span_processor(SimpleSpanProcessor(Hangs()))
    with running(database, jobs=[job], tracer_provider=provider) as starter:
        assert starter.client.enqueue(job, 1).wait(WAIT).result == 1
        assert hung.wait(WAIT)
        assert [run.wait(WAIT).result for run in starter.client.enqueue_many(job, range(3))] == [0, 1, 2]
        eventually(lambda: starter.workers()[0].completed == 4)
        release.set()


def test_outcomes_of_a_traced_flow_that_was_deleted_with_its_queue_are_ignored(database: str) -> None:
    job, scope, worker = echo_job(), NoScope(), uuid4()
    with pgflow.PgflowClient(database) as client, opened(database) as db:
        flows, store = PostgresFlowStore(db, db.clock), PostgresTaskStore(db, carried=lambda headers: headers)
        definition = flows.compile(definition_of(job), scope).definition
        flows.register_workers([(worker, job.slug)], scope)
        client.enqueue(job, 1)
        (task,) = store.claim(definition, worker, 1, scope).tasks
        client.delete_flow(job.slug)
        outcome = Outcome(task._replace(headers='{"traceparent": "00-1"}'), OutcomeKind.COMPLETED, "1")
        settled = store.settle([outcome])
    assert (list(settled), settled.ignored, settled.ended) == ([], [(outcome, Ignored(None, None))], ())
