"""`OtelObserver`: a starter told to OpenTelemetry.

    pgflow.starter start        short, ended at once, so that a trace shows while modules still retry
    ├─ register <module>        one an attempt, linked to the one before and to the caller that asked for it
    │  └─ phase <phase>
    └─ pgflow.starter ready     with the duration it took

After 16 attempts of a module each is the root of a trace of its own: a long outage must not make one endless trace. For
the same reason so is each turn to ready but the first. What a caller has current becomes a link and never a parent:
a starter outlives the code that started it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanContext, SpanKind

from pgflow_starter.clock import Clock
from pgflow_starter.core.modules import ModuleSpec
from pgflow_starter.core.phases import Phase
from pgflow_starter.core.state import ModuleState, ModuleStatus
from pgflow_starter.telemetry import names
from pgflow_starter.telemetry.events import NANOSECONDS, nanoseconds
from pgflow_starter.telemetry.providers import Providers

if TYPE_CHECKING:
    from pgflow_starter.ports import AttemptObserver, Redact

ATTEMPTS_IN_ONE_TRACE = 16


class _Unheard:
    """`ports.AttemptObserver` where nobody listens."""

    def phase(self, phase: Phase) -> None: ...

    def ended(self, state: ModuleState, delay: float | None) -> None: ...

    def cut_short(self) -> None: ...


_UNHEARD = _Unheard()


class OtelObserver:
    """`ports.Observer`. Thread-safe; what a provider raises is logged and goes no further."""

    def __init__(self, providers: Providers, clock: Clock, redact: Redact) -> None:
        self._providers = providers
        self._clock = clock
        self._redact = redact
        self._root = Context()
        self._was_ready = False

    @property
    def root(self) -> SpanContext:
        """The root span's, for links to it."""
        return trace.get_current_span(self._root).get_span_context()

    def started(self, modules: Sequence[ModuleSpec]) -> Callable[[], None]:
        """The root span, linked to what the caller has current. What it returns ends it: an exporter may take long."""
        if self._providers.traces:
            with self._providers.guard:
                attributes = {names.MODULE_COUNT: len(modules)}
                links = _links(self.asking())
                span = self._providers.tracer.start_span(
                    names.SPAN_START, Context(), SpanKind.INTERNAL, attributes, links
                )
                self._root = trace.set_span_in_context(span, Context())
                end = nanoseconds(self._clock)
                return lambda: self._end(span, end)
        return lambda: None

    def _end(self, span: Span, at: int) -> None:
        with self._providers.guard:
            span.end(at)

    def asking(self) -> object | None:
        """What the calling thread has current, for `attempt`."""
        if self._providers.traces:
            with self._providers.guard:
                return trace.get_current_span().get_span_context()
        return None

    def attempt(self, state: ModuleState, previous: AttemptObserver | None, asked: object | None) -> AttemptObserver:
        """A span that ends with the attempt."""
        providers = self._providers
        if not providers.heard:
            return _UNHEARD
        from pgflow_starter.telemetry.attempt import OtelAttempt, facts

        span: Span = trace.INVALID_SPAN
        with providers.guard:
            parent = self._root if state.attempts <= ATTEMPTS_IN_ONE_TRACE else Context()
            links = _links(previous.context if isinstance(previous, OtelAttempt) else None, asked)
            attributes = facts(state)
            name = names.SPAN_REGISTER.format(state.module)
            span = providers.tracer.start_span(name, parent, SpanKind.INTERNAL, attributes, links)
            body = f"{state.module}: attempt {state.attempts}"
            providers.events.tell(names.EVENT_ATTEMPT, attributes, span, at=nanoseconds(self._clock), body=body)
        return OtelAttempt(providers, span, state, self._clock, self._redact)

    def ready(self, states: Sequence[ModuleState], seconds: float) -> None:
        """A span as long as it took, with the ready event; the first time the duration of the startup."""
        providers = self._providers
        if not providers.heard:
            return
        with providers.guard:
            first, self._was_ready = not self._was_ready, True
            if first and providers.instruments is not None:
                providers.instruments.startup.record(seconds)
            end = nanoseconds(self._clock)
            attributes: dict[str, Any] = {
                f"{names.MODULE_COUNT}.{status}": sum(s.status is status for s in states)
                for status in (ModuleStatus.SUCCEEDED, ModuleStatus.FAILED_PERMANENT)
            }
            span = providers.tracer.start_span(
                names.SPAN_READY,
                self._root if first else Context(),
                SpanKind.INTERNAL,
                attributes,
                [] if first else _links(self.root),
                start_time=end - int(seconds * NANOSECONDS),
            )
            body = f"ready after {seconds:.3g} s"
            providers.events.tell(names.EVENT_READY, attributes, span, at=end, body=body)
            span.end(end)


def _links(*contexts: object | None) -> list[Link]:
    return [Link(c) for c in contexts if isinstance(c, SpanContext) and c.is_valid]
