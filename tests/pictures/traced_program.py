"""`pgflow-starter` with its spans sent to OTEL_EXPORTER_OTLP_ENDPOINT, as the process that PROCESS names.

The backend of the pictures keeps nothing of a span's resource, so that each span has the name of its process itself.
"""

from __future__ import annotations

import os

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from pgflow_starter.__main__ import main

PROJECT = "shop"
INSTANCE = "service.instance.id"


class NamesProcess(SpanProcessor):
    """Writes the process's name on each span."""

    def __init__(self, name: str) -> None:
        self._name = name

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        span.set_attribute(INSTANCE, self._name)


def telling(url: str, name: str) -> TracerProvider:
    """A provider that sends the spans of the process of that name to a backend."""
    provider = TracerProvider(resource=Resource({"service.name": PROJECT, "openinference.project.name": PROJECT}))
    provider.add_span_processor(NamesProcess(name))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{url}/v1/traces")))
    return provider


if __name__ == "__main__":
    trace.set_tracer_provider(telling(os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"], os.environ["PROCESS"]))
    main()
