"""A trace context on its way: into the headers of messages, on to the next message, and out of them."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.trace import Span


def headers_of(span: Span) -> str | None:
    """The headers, a JSON object, with which others find the span; None where it is in no trace."""
    carried: dict[str, str] = {}
    if span.get_span_context().is_valid:
        propagate.inject(carried, trace.set_span_in_context(span))
    return json.dumps(carried) if carried else None


def carried_of(headers: str) -> str | None:
    """Those of the headers with which the span is found, and no other; None where there are none."""
    fields = propagate.get_global_textmap().fields
    carried = {name: value for name, value in _strings(headers).items() if name in fields}
    return json.dumps(carried) if carried else None


def sender_of(headers: str | None) -> Context:
    """The sender's context; an empty one where there is none."""
    return Context() if headers is None else propagate.extract(_strings(headers), Context())


def _strings(headers: str) -> dict[str, Any]:
    with suppress(ValueError, RecursionError):  # somebody else's, who may put there what they like
        found = json.loads(headers)
        if isinstance(found, dict):
            return {name: value for name, value in found.items() if isinstance(value, str)}
    return {}
