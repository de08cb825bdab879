"""A run as a span, made when it has ended, by whoever ended it."""

from __future__ import annotations

from opentelemetry.trace import SpanKind

from pgflow_starter.core.runs import EndedRun
from pgflow_starter.errors import RunFailedError
from pgflow_starter.telemetry import names
from pgflow_starter.telemetry.carrying import sender_of
from pgflow_starter.telemetry.events import NANOSECONDS
from pgflow_starter.telemetry.processing import failed
from pgflow_starter.telemetry.providers import Providers


def tell_ended(providers: Providers, run: EndedRun) -> None:
    """Below its sender's, as long as the run was by the server's clock. The end of a span may hang in its exporter."""
    with providers.guard:
        span = providers.tracer.start_span(
            names.SPAN_RUN.format(run.flow_slug),
            sender_of(run.headers),
            SpanKind.INTERNAL,
            {names.RUN_ID: str(run.id), names.FLOW: run.flow_slug, names.RUN_STATUS: run.status},
            start_time=int(run.started_at * NANOSECONDS),
        )
        if run.status == "failed":
            failed(span, RunFailedError.__name__)
        span.end(int(run.ended_at * NANOSECONDS))
