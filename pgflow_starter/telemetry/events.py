"""`Events`: every event goes through here, as an event of its span and, unless it is an exception, as a log record
with the same attributes; and how a moment and a failure are told.

OpenTelemetry is about to have events as log records only, by an API that is private still: a change of it is met here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from opentelemetry import trace
from opentelemetry._logs import Logger, SeverityNumber
from opentelemetry.context import Context
from opentelemetry.trace import Span
from opentelemetry.util.types import AttributeValue

from pgflow_starter.clock import Clock
from pgflow_starter.telemetry import names

INFO, WARN, ERROR = SeverityNumber.INFO, SeverityNumber.WARN, SeverityNumber.ERROR

NANOSECONDS = 1_000_000_000
"""In a second."""

_SQLSTATE = re.compile(r"[0-9A-Z]{5}")


class Events:
    """Thread-safe; raises what the providers raise."""

    def __init__(self, logger: Logger | None, heard: Any) -> None:
        self._logger = logger
        self._heard = heard

    def exception(self, attributes: Mapping[str, AttributeValue], span: Span, *, at: int) -> None:
        """An exception, in its span alone: of one that is worth it the log has a line."""
        span.add_event(names.EVENT_EXCEPTION, attributes, at)

    def tell(
        self,
        name: str,
        attributes: Mapping[str, AttributeValue],
        span: Span | None,
        *,
        at: int,
        severity: SeverityNumber = INFO,
        body: str | None = None,
    ) -> None:
        """Tell of it; `at` is nanoseconds since 1970, `body` a line for people. No span: a log record alone."""
        if span is not None and span.is_recording():
            span.add_event(name, attributes, at)
        if self._logger is not None and self._heard:
            self._logger.emit(
                timestamp=at,
                observed_timestamp=at,
                context=Context() if span is None else trace.set_span_in_context(span, Context()),
                severity_number=severity,
                severity_text=severity.name,
                body=body,
                attributes=dict(attributes),
                event_name=name,
            )


def nanoseconds(clock: Clock) -> int:
    """Now, since 1970."""
    return int(clock.now().timestamp() * NANOSECONDS)


def failure(kind: str) -> dict[str, str]:
    """A failure's attributes: its type, an SQLSTATE or a class, and the database's answer where it is one."""
    attributes = {names.ERROR_TYPE: kind}
    return {**attributes, names.DB_STATUS: kind} if _SQLSTATE.fullmatch(kind) else attributes
