"""`OtelIncidents`: actors that crash and are restarted, and the LISTEN connection that is lost and comes back.

Each is a span of its own with two events, linked to the start's: `pgflow.actor restart` from the crash to the restart,
`pgflow.notify reconnect` from the loss to the return, made when it is over, for an outage may be long.
"""

from __future__ import annotations

from collections.abc import Mapping

from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode

from pgflow_starter.clock import Clock
from pgflow_starter.core.classify import error_type
from pgflow_starter.telemetry import events, names
from pgflow_starter.telemetry.events import failure, nanoseconds
from pgflow_starter.telemetry.observer import OtelObserver
from pgflow_starter.telemetry.providers import Providers

STOPPED = "Stopped"
"""The error type of an actor that somebody else stopped."""


class OtelIncidents:
    """`ports.ActorObserver` and `ports.ListenObserver`. Thread-safe; what a provider raises goes no further.

    Of an error only its type is told: an actor may die of anything, with anything in its words.
    """

    def __init__(self, providers: Providers, observer: OtelObserver, clock: Clock) -> None:
        self._providers = providers
        self._observer = observer
        self._clock = clock
        self._restarting: dict[tuple[str, str], Span] = {}
        self._lost: tuple[int, dict[str, str]] | None = None

    # --- actors -----------------------------------------------------------------------------------------------------

    def died(self, supervisor: str, actor: str, reason: BaseException | None, *, restarting: bool) -> None:
        """A span that ends with the restart; at once where there will be none."""
        if not self._providers.heard:
            return
        with self._providers.guard:
            kind = STOPPED if reason is None else error_type(reason)
            attributes = {**_actor(supervisor, actor), **failure(kind)}
            span = self._span(names.SPAN_RESTART, attributes)
            span.set_status(Status(StatusCode.ERROR))
            self._events.tell(
                names.EVENT_CRASH,
                attributes,
                span,
                at=nanoseconds(self._clock),
                severity=events.ERROR,
                body=f"{supervisor}: {actor} died of {kind}",
            )
            # Of a supervisor that died nobody is restarted: its successor starts them anew.
            for key in [k for k in list(self._restarting) if k[0] == actor]:
                self._restarting.pop(key).end()
            if restarting:
                self._restarting[supervisor, actor] = span
            else:
                span.end()

    def restarted(self, supervisor: str, actor: str) -> None:
        """Counted, and the end of the span."""
        if not self._providers.heard:
            return
        with self._providers.guard:
            attributes, now = _actor(supervisor, actor), nanoseconds(self._clock)
            span = self._restarting.pop((supervisor, actor), None)
            body = f"{supervisor}: {actor} was restarted"
            self._events.tell(names.EVENT_RESTART, attributes, span, at=now, severity=events.WARN, body=body)
            if span is not None:
                span.end()
        with self._providers.guard:
            if self._providers.instruments is not None:
                self._providers.instruments.restarts.add(1, attributes)

    def closed(self) -> None:
        """Nobody is restarted any more."""
        with self._providers.guard:
            while self._restarting:
                self._restarting.popitem()[1].end()

    # --- LISTEN -----------------------------------------------------------------------------------------------------

    def disconnected(self, error: BaseException) -> None:
        """Remembered, and told as a log record."""
        if not self._providers.heard:
            return
        with self._providers.guard:
            attributes = failure(error_type(error))
            began = nanoseconds(self._clock)
            if self._lost is None:
                self._lost = began, attributes
            body = f"the LISTEN connection was lost: {attributes[names.ERROR_TYPE]}"
            self._events.tell(names.EVENT_DISCONNECTED, attributes, None, at=began, severity=events.WARN, body=body)

    def reconnected(self) -> None:
        """A span as long as the loss, with both events."""
        lost, self._lost = self._lost, None
        if not self._providers.heard:
            return
        with self._providers.guard:
            now = nanoseconds(self._clock)
            began, attributes = (now, {}) if lost is None else lost
            span = self._span(names.SPAN_RECONNECT, attributes, began)
            if lost is not None:
                span.add_event(names.EVENT_DISCONNECTED, attributes, began)
            seconds = (now - began) / 1e9
            body = f"the LISTEN connection is back after {seconds:.3g} s"
            self._events.tell(names.EVENT_RECONNECTED, {}, span, at=now, body=body)
            span.end(now)

    # --- both -------------------------------------------------------------------------------------------------------

    @property
    def _events(self) -> events.Events:
        return self._providers.events

    def _span(self, name: str, attributes: Mapping[str, str], began: int | None = None) -> Span:
        root = self._observer.root
        links = [Link(root)] if root.is_valid else []
        return self._providers.tracer.start_span(
            name, Context(), SpanKind.INTERNAL, attributes, links, start_time=began
        )


def _actor(supervisor: str, actor: str) -> dict[str, str]:
    return {names.SUPERVISOR: supervisor, names.ACTOR: actor}
