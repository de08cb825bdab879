"""`OtelAttempt`: one attempt of a module as a span, with a span below it for each phase."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from opentelemetry import trace
from opentelemetry._logs import SeverityNumber
from opentelemetry.context import Context, attach, detach
from opentelemetry.trace import Span, SpanContext, SpanKind, Status, StatusCode

from pgflow_starter.clock import Clock
from pgflow_starter.core.classify import classify, error_type, reason
from pgflow_starter.core.phases import Phase
from pgflow_starter.core.state import ModuleState, ModuleStatus
from pgflow_starter.telemetry import events, names
from pgflow_starter.telemetry.events import failure, nanoseconds
from pgflow_starter.telemetry.providers import Providers

if TYPE_CHECKING:
    from pgflow_starter.ports import Redact

_ENDINGS = {
    ModuleStatus.SUCCEEDED: names.EVENT_SUCCESS,
    ModuleStatus.RETRYING: names.EVENT_RETRY_SCHEDULED,
    ModuleStatus.FAILED_PERMANENT: names.EVENT_FAILED_PERMANENT,
}
CUT_SHORT = "StarterStopped"
"""The error type of an attempt that was under way when its starter stopped."""


class OtelAttempt:
    """`ports.AttemptObserver`: the span of one attempt, which began in `state`."""

    def __init__(self, providers: Providers, span: Span, state: ModuleState, clock: Clock, redact: Redact) -> None:
        self._providers = providers
        self._span = span
        self._before = state
        self._clock = clock
        self._redact = redact
        self._began = clock.monotonic()

    @property
    def context(self) -> SpanContext:
        """For links to it."""
        return self._span.get_span_context()

    def phase(self, phase: Phase) -> OtelPhase | None:
        """A child span around the phase."""
        providers = self._providers
        if not providers.traces:
            return None
        span: Span = trace.INVALID_SPAN
        with providers.guard:
            parent = trace.set_span_in_context(self._span, Context())
            attributes: dict[str, Any] = {
                names.PHASE: str(phase),
                names.MODULE: self._before.module,
                names.ATTEMPT: self._before.attempts,
            }
            span = providers.tracer.start_span(names.SPAN_PHASE.format(phase), parent, SpanKind.INTERNAL, attributes)
        return OtelPhase(providers, span, phase, self._redact)

    def ended(self, state: ModuleState, delay: float | None) -> None:
        """The closing event, the end of the span, and the duration."""
        providers, seconds = self._providers, self._clock.monotonic() - self._began
        with providers.guard:
            attributes = facts(state)
            error = state.last_error
            body = f"{state.module}: attempt {state.attempts} succeeded"
            if error is not None:
                body = f"{state.module}: attempt {state.attempts} failed in phase {error.phase}: {error.reason}"
                attributes[names.PHASE] = str(error.phase)
                attributes.update(failure(error.error_type))
                attributes[names.ERROR_CLASS] = str(error.error_class)
                self._span.set_status(Status(StatusCode.ERROR, error.reason))
            if delay is not None:
                attributes[names.RETRY_DELAY] = delay
            self._span.set_attributes(attributes)
            providers.events.tell(
                _ENDINGS[state.status],
                attributes,
                self._span,
                at=nanoseconds(self._clock),
                severity=self._severity(state),
                body=body,
            )
            self._span.end()
        with providers.guard:
            if providers.instruments is not None:
                kept = (names.MODULE, names.MODULE_TYPE, names.MODULE_STATUS, names.ERROR_TYPE)
                measured = {k: attributes[k] for k in kept if k in attributes}
                providers.instruments.attempt.record(
                    seconds, measured, trace.set_span_in_context(self._span, Context())
                )

    def cut_short(self) -> None:
        """The span ends as it is; does nothing to an attempt that has ended."""
        with self._providers.guard:
            if self._span.is_recording():
                self._span.set_attribute(names.ERROR_TYPE, CUT_SHORT)
                self._span.set_status(Status(StatusCode.ERROR, "the starter was stopped"))
                self._span.end()

    def _severity(self, state: ModuleState) -> SeverityNumber:
        """A long outage is worth one warning, not one an attempt."""
        if state.status is ModuleStatus.FAILED_PERMANENT:
            return events.ERROR
        turned = state.status is ModuleStatus.RETRYING and self._before.status is not ModuleStatus.RETRYING
        return events.WARN if turned else events.INFO


class OtelPhase:
    """`ports.PhaseObserver`: the span of one phase."""

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


def facts(state: ModuleState) -> dict[str, Any]:
    """What a module's state says, as attributes."""
    known = {names.MODULE_SLUG: state.slug} if state.slug is not None else {}
    return {
        names.MODULE: state.module,
        **known,
        names.MODULE_TYPE: str(state.type),
        names.MODULE_STATUS: str(state.status),
        names.ATTEMPT: state.attempts,
    }
