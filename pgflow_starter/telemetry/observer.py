"""`OtelObserver`: a starter told as OpenTelemetry spans and span events.

    pgflow.starter start        short, ended at once, so that a trace shows while modules still retry
    ├─ register <module>        one an attempt, linked to the one before
    │  └─ phase <phase>
    └─ pgflow.starter ready     with the duration it took

After 16 attempts of a module each is the root of a trace of its own: a long outage must not make one endless trace.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context, attach, detach
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode, Tracer

from pgflow_starter.core.classify import classify, error_type, reason
from pgflow_starter.core.modules import ModuleSpec
from pgflow_starter.core.state import ModuleState, ModuleStatus, Phase
from pgflow_starter.ports import AttemptObserver, Clock, Redact
from pgflow_starter.telemetry import names
from pgflow_starter.telemetry.guard import guarded

ATTEMPTS_IN_ONE_TRACE = 16
_SQLSTATE = re.compile(r"[0-9A-Z]{5}")
_NANOSECONDS = 1_000_000_000


class OtelObserver:
    """`ports.Observer`. Thread-safe; what a provider raises is logged and goes no further."""

    def __init__(self, tracer_provider: Any, clock: Clock, redact: Redact) -> None:
        self._tracer = trace.get_tracer(names.SCOPE, tracer_provider=tracer_provider)
        self._clock = clock
        self._redact = redact
        self._root = Context()

    def started(self, modules: Sequence[ModuleSpec]) -> None:
        """The root span, ended at once."""
        with guarded():
            attributes = {names.MODULE_COUNT: len(modules)}
            span = self._tracer.start_span(names.SPAN_START, Context(), SpanKind.INTERNAL, attributes)
            span.end()
            self._root = trace.set_span_in_context(span, Context())

    def attempt(self, state: ModuleState, previous: AttemptObserver | None) -> AttemptObserver:
        """A span that ends with the attempt."""
        span: Span = trace.INVALID_SPAN
        with guarded():
            parent = self._root if state.attempts <= ATTEMPTS_IN_ONE_TRACE else Context()
            linked = previous.span.get_span_context() if isinstance(previous, OtelAttempt) else None
            links = [Link(linked)] if linked is not None and linked.is_valid else None
            attributes = _facts(state)
            span = self._tracer.start_span(
                names.span_register(state.module), parent, SpanKind.INTERNAL, attributes, links
            )
            span.add_event(names.EVENT_ATTEMPT, attributes)
        return OtelAttempt(self._tracer, span, self._redact)

    def ready(self, states: Sequence[ModuleState], seconds: float) -> None:
        """A span as long as it took, with the ready event."""
        with guarded():
            end = int(self._clock.now().timestamp() * _NANOSECONDS)
            count = {
                status: sum(s.status is status for s in states)
                for status in (ModuleStatus.SUCCEEDED, ModuleStatus.FAILED_PERMANENT)
            }
            attributes = {f"{names.MODULE_COUNT}.{status}": n for status, n in count.items()}
            span = self._tracer.start_span(
                names.SPAN_READY,
                self._root,
                SpanKind.INTERNAL,
                attributes,
                start_time=end - int(seconds * _NANOSECONDS),
            )
            span.add_event(names.EVENT_READY, attributes, end)
            span.end(end)


class OtelAttempt:
    """`ports.AttemptObserver`: the span of one attempt."""

    def __init__(self, tracer: Tracer, span: Span, redact: Redact) -> None:
        self.span = span
        self._tracer = tracer
        self._redact = redact

    def phase(self, phase: Phase) -> AbstractContextManager[None]:
        """A child span around the phase, current on its thread, so that the SQL's own spans are below it."""
        # Without a provider an attempt has no span, and all that follows would be for nothing.
        return self._phase(phase) if self.span.get_span_context().is_valid else nullcontext()

    @contextmanager
    def _phase(self, phase: Phase) -> Iterator[None]:
        span: Span = trace.INVALID_SPAN
        parent = trace.set_span_in_context(self.span, Context())
        with guarded():
            attributes = {names.PHASE: str(phase)}
            span = self._tracer.start_span(names.span_phase(phase), parent, SpanKind.INTERNAL, attributes)
        token = attach(trace.set_span_in_context(span, Context()))
        try:
            yield
        except BaseException as error:
            with guarded():
                span.set_attributes(_error(error_type(error), str(classify(error, phase))))
                span.set_status(Status(StatusCode.ERROR, self._redact(reason(error))))
            raise
        finally:
            detach(token)
            with guarded():
                span.end()

    def ended(self, state: ModuleState, delay: float | None) -> None:
        """The closing event and the end of the span."""
        with guarded():
            attributes = _facts(state)
            error = state.last_error
            if error is not None:
                attributes[names.PHASE] = str(error.phase)
                attributes.update(_error(error.error_type, str(error.error_class)))
                self.span.set_status(Status(StatusCode.ERROR, error.reason))
            if delay is not None:
                attributes[names.RETRY_DELAY] = delay
            self.span.set_attributes(attributes)
            self.span.add_event(_ENDINGS[state.status], attributes)
            self.span.end()


_ENDINGS = {
    ModuleStatus.SUCCEEDED: names.EVENT_SUCCESS,
    ModuleStatus.RETRYING: names.EVENT_RETRY_SCHEDULED,
    ModuleStatus.FAILED_PERMANENT: names.EVENT_FAILED_PERMANENT,
}


def _facts(state: ModuleState) -> dict[str, Any]:
    return {
        names.MODULE: state.module,
        names.MODULE_TYPE: str(state.type),
        names.MODULE_STATUS: str(state.status),
        names.ATTEMPT: state.attempts,
    }


def _error(kind: str, error_class: str) -> dict[str, Any]:
    facts = {names.ERROR_TYPE: kind, names.ERROR_CLASS: error_class}
    return {**facts, names.DB_STATUS: kind} if _SQLSTATE.fullmatch(kind) else facts
