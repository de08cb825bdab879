"""A trace goes on where a message is processed: its context travels with the messages of a run."""

from __future__ import annotations

import uuid
from typing import Any

import psycopg
from opentelemetry import baggage, trace
from opentelemetry.context import attach, detach
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

import pgflow_starter as pgflow
from pgflow_starter import PgflowClient
from pgflow_starter.postgres.client.first_messages import set_headers
from pgflow_starter.postgres.stores.flows import compile_flow
from tests.support.starters import running
from tests.support.waiting import eventually


class Traced:
    """A provider and what it was told."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))

    def named(self, name: str, count: int = 1) -> list[ReadableSpan]:
        def found() -> list[ReadableSpan]:
            spans = [s for s in self.exporter.get_finished_spans() if s.name == name]
            return spans if len(spans) == count else []

        return eventually(found)


def two_steps() -> pgflow.Flow:
    flow = pgflow.Flow("order")
    seen: dict[str, Any] = {}
    flow.step(slug="first")(
        lambda given, ctx: seen.setdefault("span", trace.get_current_span()).get_span_context().span_id
    )
    flow.step(slug="second", depends_on=["first"])(lambda given, ctx: given["first"])
    return flow


def test_each_step_is_a_child_of_whoever_started_the_run(database: str) -> None:
    traced = Traced()
    flow = two_steps()
    with running(database, flows=[flow], tracer_provider=traced.provider) as starter:
        with traced.provider.get_tracer("test").start_as_current_span("request") as request:
            run = starter.client.start_flow(flow, {"secret": "s3cr3t"})
        ended = run.wait(20)
        assert ended.status == "completed"
        first, second = sorted(traced.named("process order", 2), key=lambda s: s.start_time or 0)
    (send,) = traced.named("send order")
    assert send.kind is SpanKind.PRODUCER
    assert send.parent == request.get_span_context()
    assert first.kind is SpanKind.CONSUMER
    assert first.parent is not None
    assert (first.parent.trace_id, first.parent.span_id) == (send.context.trace_id, send.context.span_id)
    assert ended.result == first.context.span_id  # current in the handler
    assert second.parent == first.parent
    for span in (send, first, second):
        assert span.attributes is not None
        assert span.attributes["pgflow.run.id"] == str(run.id)
        assert span.attributes["messaging.system"] == "pgmq"
        assert span.attributes["messaging.destination.name"] == "order"
        assert "s3cr3t" not in span.to_json()


def test_it_travels_with_every_message_of_many_and_of_a_map(database: str) -> None:
    traced = Traced()
    flow = pgflow.Flow("mapped")
    flow.map(slug="each")(lambda item, ctx: item)
    with running(database, flows=[flow], tracer_provider=traced.provider) as starter:
        for run in starter.client.start_flows(flow, [[1, 2], [3]]):
            run.wait(20)
        processed = traced.named("process mapped", 3)
    (send,) = traced.named("send mapped")
    assert {span.context.trace_id for span in processed} == {send.context.trace_id}
    assert send.attributes is not None
    assert send.attributes["messaging.batch.message_count"] == 2


def test_a_task_that_fails_says_of_what(database: str) -> None:
    traced = Traced()
    job = pgflow.job("bad", max_attempts=1)(lambda message, ctx: 1 / message)
    with running(database, jobs=[job], tracer_provider=traced.provider) as starter:
        assert starter.client.enqueue(job, 0).wait(20).status == "failed"
        (span,) = traced.named("process bad")
    assert span.status.status_code is StatusCode.ERROR
    assert span.attributes is not None
    assert span.attributes["error.type"] == "ZeroDivisionError"


def test_whoever_does_not_trace_sends_no_headers(database: str) -> None:
    job = pgflow.job("plain")(lambda message, ctx: None)
    with running(database, jobs=[job]) as starter:
        run = starter.client.enqueue(job, 1)
        assert run.wait(20).status == "completed"
    with psycopg.connect(database) as conn:
        assert conn.execute("select headers from pgmq.a_plain").fetchall() == [(None,)]


def test_a_pgmq_without_headers_is_left_alone(empty_database: str) -> None:
    with psycopg.connect(empty_database) as conn:
        conn.execute("create schema pgmq; create table pgmq.q_old (msg_id int, message jsonb)")
        set_headers(conn, "old", [], '{"traceparent": "00-1-1-01"}')


def test_headers_that_anybody_wrote_are_no_reason_not_to_tell_of_the_task(database: str) -> None:
    traced = Traced()
    job = pgflow.job("any")(lambda message, ctx: dict(baggage.get_all()))
    odd = ['"abc"', "[1]", "7", "null", "{}", '{"traceparent": 1}', '{"traceparent": "00-0-0"}', '{"baggage": "a=b"}']
    with psycopg.connect(database, autocommit=True) as conn:
        compile_flow(conn, job.__pgflow_definition__())
        for headers in odd:
            with conn.transaction():
                conn.execute("select pgflow.start_flow('any', '1')")
                conn.execute("update pgmq.q_any set headers = %s::jsonb where headers is null", (headers,))
        with running(database, jobs=[job], tracer_provider=traced.provider):
            traced.named("process any", len(odd))
            eventually(lambda: not conn.execute("select from pgflow.runs where status <> 'completed'").fetchall())
        outputs = conn.execute("select output -> 'any' from pgflow.runs where output -> 'any' <> '{}'").fetchall()
    assert outputs == [({"a": "b"},)]


def test_what_is_too_long_is_neither_sent_nor_carried_on(database: str) -> None:
    traced = Traced()
    long, short = "a=" + "b" * 9000, "0" * 1000
    with PgflowClient(database, tracer_provider=traced.provider) as client, psycopg.connect(database) as conn:
        token = attach(baggage.set_baggage("a", "b" * 9000))
        try:
            run = client.start_flow(two_steps(), 1)
        finally:
            detach(token)
        sent = conn.execute("select array(select jsonb_object_keys(headers)) from pgmq.q_order").fetchall()
        added = "headers || jsonb_build_object('baggage', %s::text, 'tracestate', %s::text)"
        conn.execute(f"update pgmq.q_order set headers = {added}", (long, short))
        conn.commit()
        with running(database, flows=[two_steps()]):
            assert run.wait(20).status == "completed"
        carried = conn.execute(
            "select array(select jsonb_object_keys(headers) order by 1) from pgmq.a_order"
        ).fetchall()
    assert sent == [(["traceparent"],)]
    assert carried == [(["baggage", "traceparent", "tracestate"],), (["traceparent", "tracestate"],)]


def test_a_role_that_may_not_write_headers_sends_without_them(database: str) -> None:
    traced = Traced()
    job = pgflow.job("sent")(lambda message, ctx: message)
    with psycopg.connect(database, autocommit=True) as admin:
        compile_flow(admin, job.__pgflow_definition__())
        role = f"sender_{uuid.uuid4().hex}"
        for statement in (
            "create role {} login",
            "grant usage on schema pgmq, pgflow, realtime to {}",
            "grant usage, create on schema pgmq to {}",
            "grant select, insert on all tables in schema pgmq to {}",
            "grant usage on all sequences in schema pgmq to {}",
            "grant all on all tables in schema pgflow to {}",
        ):
            admin.execute(statement.format(role))
        try:
            with PgflowClient(f"{database} user={role}", tracer_provider=traced.provider) as client:
                assert client.enqueue("sent", 1).status == "started"
        finally:
            admin.execute(f"drop owned by {role}; drop role {role}")
