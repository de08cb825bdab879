"""Whose span is below or linked to whose: what a caller has current leads to what it asked for, and leaks nowhere."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from opentelemetry import trace
from opentelemetry.trace import SpanKind

import pgflow_starter as pgflow
from pgflow_starter import Starter
from pgflow_starter.clock import SystemClock
from pgflow_starter.core.task import Outcome, OutcomeKind, Task
from pgflow_starter.postgres.client.calls import Calls
from pgflow_starter.telemetry.messages import OtelMessages
from pgflow_starter.telemetry.providers import Providers
from tests.support.starters import echo_job, opened, running
from tests.support.waiting import eventually
from tests.telemetry.heard import Heard, attributes

WAIT = 20.0


def _asked_by_call(starter: Starter, job: pgflow.Job) -> None:
    starter.retry_now(job)


def _asked_by_proxy(starter: Starter, job: pgflow.Job) -> None:
    starter.proxy().retry_now(job).get(timeout=WAIT)


@pytest.mark.parametrize("ask", [_asked_by_call, _asked_by_proxy])
def test_who_starts_and_who_asks_for_an_attempt_are_linked_and_no_parents(
    database: str, heard: Heard, ask: Callable[[Starter, pgflow.Job], None]
) -> None:
    tracer, job = heard.tracer_provider.get_tracer("test"), echo_job()
    with tracer.start_as_current_span("main") as main, running(database, jobs=[job], **heard.settings) as starter:
        starter.await_ready(WAIT)
        with tracer.start_as_current_span("click") as click:
            ask(starter, job)
        heard.await_spans("register echo", 2)
        starter.client.enqueue(job, 1).wait(WAIT)
    (start,) = heard.spans("pgflow.starter start")
    first, second = heard.spans("register echo")
    assert start.parent is None
    assert [link.context for link in start.links] == [main.get_span_context()]
    assert first.links == ()
    assert [link.context for link in second.links] == [first.context, click.get_span_context()]
    ours = [s for s in heard.spans() if s.name not in ("main", "click")]
    sent = {s.context.span_id for s in ours if s.name == "send echo"}
    below_main = [s.name for s in ours if s.context.trace_id == main.get_span_context().trace_id]
    assert sorted(below_main) == ["process echo", "run echo", "send echo"]
    assert all(s.parent is None or s.parent.span_id in sent for s in ours if s.name == "process echo")


def test_a_claim_that_got_messages_is_linked_to_their_senders_and_its_tasks_to_it(database: str, heard: Heard) -> None:
    tracer, job = heard.tracer_provider.get_tracer("test"), echo_job()
    with pgflow.PgflowClient(database, tracer_provider=heard.tracer_provider) as client:
        for name in ("one", "other"):
            with tracer.start_as_current_span(name):
                client.enqueue(job, name)
        with running(database, jobs=[job], **heard.settings) as starter:
            starter.await_ready(WAIT)
            processed = heard.await_spans("process echo", 2)
            (received,) = heard.spans("receive echo")
    assert received.kind is SpanKind.CLIENT
    assert received.parent is None
    assert dict(attributes(received)) == {
        "messaging.system": "pgmq",
        "messaging.destination.name": "echo",
        "messaging.operation.name": "receive",
        "messaging.operation.type": "receive",
        "messaging.batch.message_count": 2,
    }
    senders = {s.context.span_id for s in heard.spans("send echo")}
    assert {link.context.span_id for link in received.links} == senders
    assert {s.parent.span_id for s in processed if s.parent} == senders
    for span in processed:
        assert [link.context.span_id for link in span.links] == [received.context.span_id]
        assert attributes(span)["pgflow.task.outcome"] == "completed"


def test_a_task_that_snoozes_is_no_error(database: str, heard: Heard) -> None:
    @pgflow.job("nap")
    def nap(message: Any, ctx: pgflow.TaskContext) -> None:
        raise pgflow.Snooze(3600)

    with running(database, jobs=[nap], **heard.settings) as starter:
        starter.client.enqueue(nap)
        (span,) = heard.await_spans("process nap", 1)
    assert attributes(span)["pgflow.task.outcome"] == "snoozed"
    assert "error.type" not in attributes(span)
    assert span.status.is_unset
    (measured,) = heard.measured("messaging.process.duration")
    assert "error.type" not in dict(measured)


def test_a_poll_that_finds_nothing_is_no_span(database: str, heard: Heard) -> None:
    with opened(database, jobs=[echo_job()], **heard.settings) as (starter, runtime):
        starter.await_ready(WAIT)
        (cell,) = runtime.parts.workers.cells()
        eventually(lambda: cell.claims.claim() is not None)
    assert heard.spans("receive echo") == []


def test_the_senders_span_is_current_while_its_statement_runs(
    database: str, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    job = echo_job()
    resending = Calls.resending

    def watched(*args: Any, **kwargs: Any) -> Any:
        seen.append(trace.get_current_span().get_span_context())
        return resending(*args, **kwargs)

    with running(database, jobs=[job], **heard.settings) as starter:
        starter.await_ready(WAIT)
        monkeypatch.setattr(Calls, "resending", watched)
        starter.client.enqueue(job, 1)
    (send,) = heard.spans("send echo")
    assert seen[0] == send.context


def test_what_somebody_else_put_into_the_headers_harms_nobody(database: str, heard: Heard) -> None:

    messages = OtelMessages(Providers(SystemClock(), **heard.settings), SystemClock())
    for headers in ("{", "[" * 100_000, "[1]", '{"traceparent": 7}', '{"traceparent": "00-zz-1-01"}', "null"):
        task = Task(uuid4(), "shop", "a", 0, 1, 1, None, None, headers=headers)
        with messages.processing(task, None) as told:
            told(Outcome(task, OutcomeKind.COMPLETED), None)
    assert [s.parent for s in heard.spans("process shop")] == [None] * 6


def test_of_headers_only_those_go_on_with_which_a_trace_travels(heard: Heard) -> None:
    messages = OtelMessages(Providers(SystemClock(), **heard.settings), SystemClock())
    traced = {"traceparent": "00-1", "tracestate": "a=b", "baggage": "c=d"}
    carried = messages.carried(json.dumps({**traced, "x-pgmq-group": "shop", "pgflow_rerun_of": "1", "number": 1}))
    assert carried is not None
    assert json.loads(carried) == traced
    assert [messages.carried(text) for text in ('{"x-pgmq-group": "shop"}', '{"traceparent": 1}', "[1]", "{")] == [
        None
    ] * 4


def test_an_attempt_that_a_stop_cuts_short_is_told_all_the_same(database: str, heard: Heard) -> None:
    begun, go = threading.Event(), threading.Event()

    class Hangs:
        @staticmethod
        def __pgflow_definition__() -> pgflow.FlowDefinition:
            begun.set()
            go.wait(WAIT)
            return echo_job("late").__pgflow_definition__()

    with running(database, flows=[Hangs], **heard.settings):
        assert begun.wait(WAIT)
    go.set()
    (span,) = [s for s in heard.spans() if s.name.startswith("register")]
    assert attributes(span)["error.type"] == "StarterStopped"


def test_a_run_that_is_done_again_names_the_one_before(database: str, heard: Heard) -> None:
    with pgflow.PgflowClient(database, tracer_provider=heard.tracer_provider) as client:
        old = client.enqueue(echo_job(), 1)
        client.cancel(old.id)
        new = client.rerun(old.id)
    before, again = heard.await_spans("send echo", 2)
    assert "pgflow.rerun_of" not in attributes(before)
    assert (attributes(again)["pgflow.rerun_of"], attributes(again)["pgflow.run.id"]) == (str(old.id), str(new.id))
    with psycopg.connect(database) as conn:
        (header,) = conn.execute("select headers from pgmq.q_echo").fetchone() or ((),)
    assert sorted(header) == ["pgflow_rerun_of", "traceparent"]
