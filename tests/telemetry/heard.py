"""`Heard`: OpenTelemetry's three providers with exporters in memory, and what they were told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opentelemetry.sdk._logs import LoggerProvider, ReadableLogRecord
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.support.waiting import eventually


class Heard:
    """`settings` are for `start`; `close` it where a test ends."""

    def __init__(self) -> None:
        self.spans_in = InMemorySpanExporter()
        self.tracer_provider = TracerProvider(shutdown_on_exit=False)
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(self.spans_in))
        self.reader = InMemoryMetricReader()
        self.meter_provider = MeterProvider([self.reader], shutdown_on_exit=False)
        self.logs_in = InMemoryLogRecordExporter()  # type: ignore[no-untyped-call] # of the SDK's making
        self.logger_provider = LoggerProvider(shutdown_on_exit=False)
        self.logger_provider.add_log_record_processor(SimpleLogRecordProcessor(self.logs_in))

    @property
    def settings(self) -> dict[str, Any]:
        """The three providers, as settings."""
        return {
            "tracer_provider": self.tracer_provider,
            "meter_provider": self.meter_provider,
            "logger_provider": self.logger_provider,
        }

    def spans(self, name: str | None = None) -> list[ReadableSpan]:
        """Those that ended, of that name if one is given, in the order of their start."""
        spans = [s for s in self.spans_in.get_finished_spans() if name in (None, s.name)]
        return sorted(spans, key=lambda s: s.start_time or 0)

    def await_spans(self, name: str, count: int = 1) -> list[ReadableSpan]:
        """Wait until so many have ended."""
        return eventually(lambda: found if len(found := self.spans(name)) >= count else [], what=f"{count} of {name}")

    def events(self, name: str | None = None) -> list[ReadableLogRecord]:
        """The log records, of that event if one is named."""
        return [r for r in self.logs_in.get_finished_logs() if name in (None, r.log_record.event_name)]

    def measured(self, name: str) -> dict[tuple[tuple[str, Any], ...], Any]:
        """The data points of an instrument now, by their attributes."""
        return {tuple(sorted((p.attributes or {}).items())): p for p in self.points(name)}

    def points(self, name: str) -> list[Any]:
        """The same as a list."""
        data = self.reader.get_metrics_data()
        if data is None:
            return []
        metrics = [m for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics if m.name == name]
        return [point for metric in metrics for point in metric.data.data_points]

    def close(self) -> None:
        """End the providers."""
        self.tracer_provider.shutdown()
        self.meter_provider.shutdown()
        self.logger_provider.shutdown()


def attributes(told: ReadableSpan | ReadableLogRecord) -> Mapping[str, Any]:
    """The attributes, which must be there."""
    found = told.attributes if isinstance(told, ReadableSpan) else told.log_record.attributes
    assert found is not None
    return found
