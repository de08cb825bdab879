"""The trace context that travels in a message's headers, a JSON object."""

from __future__ import annotations

import json

from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.trace import Span


def headers_of(span: Span) -> str | None:
    """The headers with which others find the span; None where it is in no trace."""
    carried: dict[str, str] = {}
    if span.get_span_context().is_valid:
        propagate.inject(carried, trace.set_span_in_context(span))
    return json.dumps(carried) if carried else None


def context_of(headers: str | None) -> Context:
    """The sender's context; an empty one where there is none. Raises ValueError for what is no JSON."""
    found = None if headers is None else json.loads(headers)
    if not isinstance(found, dict):
        return Context()
    return propagate.extract({k: v for k, v in found.items() if isinstance(v, str)}, Context())
