"""A trace context on its way: into the headers of messages, on to the next message, and out of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.trace import Span

LONGEST = 8192
"""Characters of a header that is taken, OpenTelemetry's own limit for baggage: a map may carry it a thousand times."""


def headers_of(span: Span) -> str | None:
    """The headers, a JSON object, with which others find the span; None where it is in no trace."""
    carried: dict[str, str] = {}
    if span.get_span_context().is_valid:
        propagate.inject(carried, trace.set_span_in_context(span))
    return _written(_strings(carried))


def carried_of(headers: str) -> str | None:
    """Those of the headers with which the span is found, and no other; None where there are none."""
    fields = propagate.get_global_textmap().fields
    return _written({name: value for name, value in _read(headers).items() if name in fields})


def sender_of(headers: str | None) -> Context:
    """The sender's context; an empty one where there is none."""
    return Context() if headers is None else propagate.extract(_read(headers), Context())


def _written(headers: Mapping[str, str]) -> str | None:
    return json.dumps(headers) if headers else None


def _read(headers: str) -> dict[str, str]:
    with suppress(ValueError, RecursionError):  # somebody else's, who may put there what they like
        found = json.loads(headers)
        if isinstance(found, dict):
            return _strings(found)
    return {}


def _strings(headers: Mapping[str, Any]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if isinstance(value, str) and len(value) <= LONGEST}
