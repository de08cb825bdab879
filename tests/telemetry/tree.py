"""A trace as text: the spans below each other, with all that was told of them but what differs from run to run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk.trace import ReadableSpan

from pgflow_starter.telemetry import names
from tests.telemetry.heard import Heard

_SECONDS = re.compile(r"[\d.e-]+ s$")
VOLATILE = {names.RETRY_DELAY: "<seconds>"}


def told(heard: Heard) -> str:
    """All spans, with their log records below them."""
    return "\n".join(_Tree(heard).lines()) + "\n"


class _Tree:
    def __init__(self, heard: Heard) -> None:
        self._spans = sorted(heard.spans(), key=_order)
        self._logs = heard.events()
        ids = {span.context.span_id for span in self._spans}
        self._roots = [s for s in self._spans if s.parent is None or s.parent.span_id not in ids]

    def lines(self) -> list[str]:
        return [line for root in self._roots for line in self._below(root, 0)]

    def _below(self, span: ReadableSpan, depth: int) -> list[str]:
        lines = [f"{_label(span)} [{span.kind.name}]"]
        lines += [f"    {key} = {value}" for key, value in _facts(span.attributes)]
        lines += [f"    linked to {self._name_of(link.context.span_id)}" for link in span.links]
        description = f": {span.status.description}" if span.status.description else ""
        lines.append(f"    status {span.status.status_code.name}{description}")
        for event in span.events:
            lines.append(f"    event {event.name}")
            lines += [f"        {key} = {value}" for key, value in _facts(event.attributes)]
        for log in self._logs:
            if log.log_record.span_id == span.context.span_id:
                lines += _log_lines(log, span)
        lines = ["    " * depth + line for line in lines]
        for child in self._spans:
            if child.parent is not None and child.parent.span_id == span.context.span_id:
                lines += self._below(child, depth + 1)
        return lines

    def _name_of(self, span_id: int) -> str:
        return next((_label(s) for s in self._spans if s.context.span_id == span_id), "a span that is not here")


def _log_lines(log: ReadableLogRecord, span: ReadableSpan) -> list[str]:
    record = log.log_record
    same = [e for e in span.events if e.name == record.event_name and dict(e.attributes or {}) == record.attributes]
    body = _SECONDS.sub("<seconds>", str(record.body))
    line = f"    log record {record.severity_text} {record.event_name}: {body}"
    return [line if same else f"{line} (its span's event differs)"]


def _label(span: ReadableSpan) -> str:
    attempt = (span.attributes or {}).get(names.ATTEMPT)
    return f"{span.name} #{attempt}" if attempt is not None and span.name.startswith("register") else span.name


def _order(span: ReadableSpan) -> tuple[str, int]:
    """By name, but for phases: those are in the order in which they were gone through."""
    return "phase" if span.name.startswith("phase") else span.name, span.start_time or 0


def _facts(attributes: Mapping[str, Any] | None) -> list[tuple[str, Any]]:
    return [(key, VOLATILE.get(key, value)) for key, value in sorted((attributes or {}).items())]
