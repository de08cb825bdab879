"""A failing task in its `process` span: the exception as an event, and the status in words, as `log_errors` has it."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan

import pgflow_starter as pgflow
from tests.support.starters import running
from tests.telemetry.heard import Heard, attributes

WAIT = 20.0


def _span(database: str, heard: Heard, **settings: Any) -> ReadableSpan:
    @pgflow.job("fails", max_attempts=1)
    def fails(message: Any, ctx: pgflow.TaskContext) -> None:
        raise LookupError(f"no customer {message}")

    with running(database, jobs=[fails], **heard.settings, **settings) as starter:
        assert starter.client.enqueue(fails, "lovelace").wait(WAIT).status == "failed"
        (span,) = heard.await_spans("process fails")
    return span


def test_the_span_has_the_exception_and_says_what_it_was(
    database: str, heard: Heard, caplog: pytest.LogCaptureFixture
) -> None:
    span = _span(database, heard)
    assert attributes(span)["error.type"] == "LookupError"
    assert (span.status.is_ok, span.status.description) == (False, "LookupError: no customer lovelace")
    (event,) = span.events
    assert event.name == "exception"
    told = dict(event.attributes or {})
    trace = str(told.pop("exception.stacktrace"))
    assert told == {"exception.type": "LookupError", "exception.message": "no customer lovelace"}
    assert trace.startswith("Traceback")
    assert trace.endswith("LookupError: no customer lovelace")
    assert heard.events("exception") == []  # the log has it


def test_by_type_it_has_neither_the_message_nor_the_source(database: str, heard: Heard) -> None:
    span = _span(database, heard, log_errors="type")
    assert (span.status.is_ok, span.status.description) == (False, "LookupError")
    (event,) = span.events
    told = dict(event.attributes or {})
    trace = str(told.pop("exception.stacktrace"))
    assert told == {"exception.type": "LookupError"}
    assert "in fails" in trace
    assert "lovelace" not in trace + span.to_json()
    assert "raise" not in trace
