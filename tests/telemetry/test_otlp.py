"""All three signals through OpenTelemetry's own exporters to a receiver over HTTP."""

from __future__ import annotations

from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from tests.support.starters import echo_job, running
from tests.support.waiting import eventually
from tests.telemetry.receiver import Receiver, facts, receiving

WAIT = 20.0


def _providers(receiver: Receiver) -> tuple[TracerProvider, MeterProvider, LoggerProvider]:
    resource = Resource.create({"service.name": "shop"})
    tracer = TracerProvider(resource=resource, shutdown_on_exit=False)
    tracer.add_span_processor(
        BatchSpanProcessor(OTLPSpanExporter(f"{receiver.url}/v1/traces", compression=Compression.Gzip))
    )
    reader = PeriodicExportingMetricReader(OTLPMetricExporter(f"{receiver.url}/v1/metrics"), 3_600_000)
    meter = MeterProvider([reader], resource=resource, shutdown_on_exit=False)
    logger = LoggerProvider(resource=resource, shutdown_on_exit=False)
    logger.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter(f"{receiver.url}/v1/logs")))
    return tracer, meter, logger


def test_a_start_and_a_task_arrive_as_traces_metrics_and_logs(database: str) -> None:
    job = echo_job()
    with receiving() as receiver:
        tracer, meter, logger = _providers(receiver)
        with running(
            database,
            flows=[object()],
            jobs=[job],
            tracer_provider=tracer,
            meter_provider=meter,
            logger_provider=logger,
        ) as starter:
            starter.await_ready(WAIT)
            starter.client.enqueue(job, "m3ss4ge").wait(WAIT)
            eventually(lambda: starter.workers()[0].running == 0)
            assert meter.force_flush()
        for provider in (tracer, meter, logger):
            provider.shutdown()
    _check_spans(receiver)
    _check_metrics(receiver)
    _check_logs(receiver)
    everything = "".join(str(request) for requests in receiver.requests.values() for request in requests)
    assert "m3ss4ge" not in everything
    assert "shop" in everything


def _check_spans(receiver: Receiver) -> None:
    by_name = {span.name: span for span in receiver.spans}
    assert set(by_name) == {
        "pgflow.starter start",
        "pgflow.starter ready",
        "register echo",
        "register object",
        "phase registry",
        "phase worker",
        "send echo",
        "receive echo",
        "process echo",
        "run echo",
    }
    failed, process = by_name["register object"], by_name["process echo"]
    assert failed.parent_span_id == by_name["pgflow.starter start"].span_id
    assert failed.status.code == failed.status.STATUS_CODE_ERROR
    assert facts(failed.attributes)["error.type"] == "DefinitionError"
    assert [event.name for event in failed.events] == [
        "pgflow.starter.module.attempt",
        "pgflow.starter.module.failed_permanent",
    ]
    assert process.parent_span_id == by_name["send echo"].span_id
    assert [link.span_id for link in process.links] == [by_name["receive echo"].span_id]
    assert process.kind == process.SPAN_KIND_CONSUMER


def _check_metrics(receiver: Receiver) -> None:
    by_name = {metric.name: metric for metric in receiver.metrics}
    assert [point.as_int for point in by_name["pgflow.starter.ready"].gauge.data_points] == [1]
    modules = by_name["pgflow.starter.module.count"].gauge.data_points
    assert {facts(p.attributes)["pgflow.starter.module.status"]: p.as_int for p in modules} == {
        "pending": 0,
        "retrying": 0,
        "succeeded": 1,
        "failed_permanent": 1,
    }
    assert by_name["messaging.process.duration"].unit == "s"
    assert [p.count for p in by_name["messaging.process.duration"].histogram.data_points] == [1]
    assert sum(p.count for p in by_name["pgflow.starter.attempt.duration"].histogram.data_points) == 2
    assert [p.count for p in by_name["pgflow.starter.startup.duration"].histogram.data_points] == [1]
    assert [p.as_int for p in by_name["pgflow.worker.task.active"].sum.data_points] == [0]
    assert not by_name["pgflow.worker.task.active"].sum.is_monotonic
    assert by_name["pgflow.worker.wakeups"].sum.is_monotonic


def _check_logs(receiver: Receiver) -> None:
    spans = {span.name: span for span in receiver.spans}
    told = {(record.event_name, record.severity_text, record.span_id) for record in receiver.logs}
    assert told == {
        ("pgflow.starter.module.attempt", "INFO", spans["register echo"].span_id),
        ("pgflow.starter.module.attempt", "INFO", spans["register object"].span_id),
        ("pgflow.starter.module.success", "INFO", spans["register echo"].span_id),
        ("pgflow.starter.module.failed_permanent", "ERROR", spans["register object"].span_id),
        ("pgflow.starter.ready", "INFO", spans["pgflow.starter ready"].span_id),
    }
