"""`OtelPhase`: one phase of an attempt as a span."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.context import Context, attach, detach
from opentelemetry.trace import Span, Status, StatusCode

from pgflow_starter.core.classify import classify, error_type, reason
from pgflow_starter.core.phases import Phase
from pgflow_starter.ports import Redact
from pgflow_starter.telemetry import names
from pgflow_starter.telemetry.failures import failure
from pgflow_starter.telemetry.providers import Providers


class OtelPhase:
    """`ports.PhaseObserver`."""

    def __init__(self, providers: Providers, span: Span, phase: Phase, redact: Redact) -> None:
        self._providers = providers
        self._span = span
        self._phase = phase
        self._redact = redact

    @contextmanager
    def current(self) -> Iterator[None]:
        """The span is current on this thread, so that the SQL's own spans are below it."""
        token = attach(trace.set_span_in_context(self._span, Context()))
        try:
            yield
        finally:
            detach(token)

    def ended(self, error: BaseException | None) -> None:
        """The span's end."""
        with self._providers.guard:
            if error is not None:
                attributes = {**failure(error_type(error)), names.ERROR_CLASS: str(classify(error, self._phase))}
                self._span.set_attributes(attributes)
                self._span.set_status(Status(StatusCode.ERROR, self._redact(reason(error))))
            self._span.end()
