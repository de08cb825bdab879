"""A start as OpenTelemetry spans and events, read back from an in-memory exporter."""

from __future__ import annotations

import psycopg
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from pgflow_starter import ModuleStatus
from tests.support.starters import echo_job, running, state
from tests.support.waiting import eventually


def _provider() -> tuple[TracerProvider, InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider, exporter


def _named(exporter: InMemorySpanExporter, name: str) -> list[ReadableSpan]:
    return [s for s in exporter.get_finished_spans() if s.name == name]


def _events(span: ReadableSpan) -> list[str]:
    return [e.name for e in span.events]


def test_a_start_with_a_failing_module_is_one_trace(database: str) -> None:
    provider, exporter = _provider()
    with running(
        database, flows=[object()], jobs=[echo_job()], signal_strategy="notify", tracer_provider=provider
    ) as starter:
        starter.await_ready(10)
        (ready,) = eventually(lambda: _named(exporter, "pgflow.starter ready"))
    (root,) = _named(exporter, "pgflow.starter start")
    (good,) = _named(exporter, "register echo")
    (bad,) = _named(exporter, "register object")
    assert root.parent is None
    assert root.attributes is not None
    assert root.attributes["pgflow.starter.module.count"] == 2
    for span in (good, bad, ready):
        assert span.parent is not None
        assert span.parent.span_id == root.context.span_id
    phases = [s.name for s in exporter.get_finished_spans() if s.parent and s.parent.span_id == good.context.span_id]
    assert phases == ["phase registry", "phase worker", "phase notify_db", "phase notify_register"]
    assert _events(good) == ["pgflow.starter.module.attempt", "pgflow.starter.module.success"]
    assert _events(bad) == ["pgflow.starter.module.attempt", "pgflow.starter.module.failed_permanent"]
    assert _events(ready) == ["pgflow.starter.ready"]
    assert bad.status.status_code is StatusCode.ERROR
    assert good.status.status_code is StatusCode.UNSET
    assert bad.attributes is not None
    assert {
        "pgflow.starter.module": "object",
        "pgflow.starter.module.type": "flow",
        "pgflow.starter.module.status": "failed_permanent",
        "pgflow.starter.attempt": 1,
        "pgflow.starter.phase": "registry",
        "pgflow.starter.error.class": "permanent",
        "error.type": "DefinitionError",
    }.items() <= dict(bad.attributes).items()


def test_a_retry_is_told_with_its_delay_and_sqlstate_and_linked_to_the_attempt_before(database: str) -> None:
    provider, exporter = _provider()
    job = echo_job("held")
    with psycopg.connect(database) as holder:
        holder.execute("select pgmq.acquire_queue_lock('held')")
        with running(database, jobs=[job], tracer_provider=provider, phase_timeout=0.3) as starter:
            eventually(lambda: state(starter, job).attempts >= 2)
            holder.rollback()
            starter.await_ready(10)
    first, second, *_ = _named(exporter, "register held")
    event = first.events[-1]
    assert event.name == "pgflow.starter.module.retry_scheduled"
    assert event.attributes is not None
    assert event.attributes["pgflow.starter.error.class"] == "transient"
    assert 0 < float(str(event.attributes["pgflow.starter.retry.delay"])) <= 0.2
    assert [link.context.span_id for link in second.links] == [first.context.span_id]


def test_the_sqlstate_is_the_response_status_code(database: str) -> None:
    provider, exporter = _provider()
    with psycopg.connect(database, autocommit=True) as admin:
        admin.execute("drop table pgflow.workers cascade")
    with running(database, jobs=[echo_job()], tracer_provider=provider) as starter:
        starter.await_ready(10)
        failed = state(starter, "echo")
        assert failed.status is ModuleStatus.FAILED_PERMANENT
    (span,) = _named(exporter, "register echo")
    assert span.attributes is not None
    assert span.attributes["error.type"] == span.attributes["db.response.status_code"] == "42P01"


def test_a_provider_that_raises_harms_nobody(database: str) -> None:
    class Broken(TracerProvider):
        def get_tracer(self, *args: object, **kwargs: object) -> object:  # type: ignore[override]
            return self

        def start_span(self, *args: object, **kwargs: object) -> None:
            raise RuntimeError("the exporter is on fire")

        def start_as_current_span(self, *args: object, **kwargs: object) -> None:
            raise RuntimeError("the exporter is on fire")

    with running(database, jobs=[echo_job()], tracer_provider=Broken()) as starter:
        starter.await_ready(10)
        assert starter.healthy()
