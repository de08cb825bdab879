"""`OtelMessages`: messages that are sent and processed, told as spans by OpenTelemetry's messaging conventions.

A message of a run's first steps carries the context of who started the run, and is processed as a child of it. pgflow
itself sends those of the steps that follow: they carry none, and what ties their spans to the run is its id.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any
from uuid import UUID

from opentelemetry import propagate, trace
from opentelemetry.context import Context, attach, detach
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer

from pgflow_starter.core.task import Outcome, OutcomeKind, Task
from pgflow_starter.telemetry import names
from pgflow_starter.telemetry.guard import guarded

_no_headers: AbstractContextManager[None] = nullcontext()
_nobody: AbstractContextManager[Callable[[Outcome], None]] = nullcontext(lambda outcome: None)


class OtelMessages:
    """`ports.MessageObserver`. Thread-safe; what a provider raises is logged and goes no further."""

    def __init__(self, tracer_provider: Any) -> None:
        self._global = tracer_provider is None
        self._tracer: Tracer = trace.NoOpTracer()
        with guarded():
            self._tracer = trace.get_tracer(names.SCOPE, tracer_provider=tracer_provider)

    def sending(self, queue: str, run_ids: Sequence[UUID]) -> AbstractContextManager[str | None]:
        """A span around it, and its context as headers; None where nobody traces."""
        return _no_headers if self._unheard() else self._sending(queue, run_ids)

    def processing(self, task: Task) -> AbstractContextManager[Callable[[Outcome], None]]:
        """A span around a task's handler, current on its thread; to be told of the outcome."""
        return _nobody if self._unheard() else self._processing(task)

    def _unheard(self) -> bool:
        """Whether no SDK is there (yet): then a message shall cost nothing."""
        return self._global and isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)

    @contextmanager
    def _sending(self, queue: str, run_ids: Sequence[UUID]) -> Iterator[str | None]:
        span: Span = trace.INVALID_SPAN
        headers: str | None = None
        with guarded():
            span = self._tracer.start_span(names.span_send(queue), None, SpanKind.PRODUCER)
            if span.is_recording():
                span.set_attributes({**_facts(queue, "send"), **_runs(run_ids)})
            if span.get_span_context().is_valid:
                carrier: dict[str, str] = {}
                propagate.inject(carrier, trace.set_span_in_context(span))
                headers = json.dumps(carrier) if carrier else None
        try:
            yield headers
        except BaseException as error:
            with guarded():
                _failed(span, getattr(error, "error_type", None) or type(error).__name__, str(error))
            raise
        finally:
            with guarded():
                span.end()

    @contextmanager
    def _processing(self, task: Task) -> Iterator[Callable[[Outcome], None]]:
        span: Span = trace.INVALID_SPAN
        sender = Context()
        with guarded():
            sender = _sender(task.headers)
            span = self._tracer.start_span(names.span_process(task.flow_slug), sender, SpanKind.CONSUMER)
            if span.is_recording():
                span.set_attributes({**_facts(task.flow_slug, "process"), **_task(task)})
        token = attach(trace.set_span_in_context(span, sender))
        try:
            yield lambda outcome: _ended(span, outcome)
        finally:
            detach(token)
            with guarded():
                span.end()


def _sender(headers: str | None) -> Context:
    """What was current where the message was sent; nothing where its headers, which may be anybody's, say none."""
    try:
        found = None if headers is None else json.loads(headers)
    except (ValueError, RecursionError):
        found = None
    carried = {k: v for k, v in found.items() if isinstance(v, str)} if isinstance(found, dict) else {}
    return propagate.extract(carried, Context()) if carried else Context()


def _ended(span: Span, outcome: Outcome) -> None:
    with guarded():
        if outcome.kind is not OutcomeKind.COMPLETED:
            _failed(span, outcome.error_type, "")


def _failed(span: Span, error_type: str, told: str) -> None:
    if span.is_recording():
        span.set_attribute(names.ERROR_TYPE, error_type)
        span.set_status(Status(StatusCode.ERROR, told))


def _facts(queue: str, operation: str) -> dict[str, Any]:
    return {
        names.MESSAGING_SYSTEM: "pgmq",
        names.MESSAGING_DESTINATION: queue,
        names.MESSAGING_OPERATION_NAME: operation,
        names.MESSAGING_OPERATION_TYPE: operation,
    }


def _runs(run_ids: Sequence[UUID]) -> dict[str, Any]:
    if len(run_ids) == 1:
        return {names.RUN_ID: str(run_ids[0])}
    return {names.MESSAGING_BATCH_COUNT: len(run_ids)}


def _task(task: Task) -> dict[str, Any]:
    return {
        names.MESSAGING_MESSAGE_ID: str(task.msg_id),
        names.RUN_ID: str(task.run_id),
        names.STEP: task.step_slug,
        names.TASK_INDEX: task.task_index,
        names.TASK_ATTEMPT: task.attempt,
    }
