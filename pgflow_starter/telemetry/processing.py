"""`Processing`: one task's handler as a span, current where it runs, and its duration.

What all tasks of a claim have in common is made once, by `Received`.
"""

from __future__ import annotations

from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context, attach, detach
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode

from pgflow_starter.clock import Clock
from pgflow_starter.core.failure import Failure, RecordOutcome
from pgflow_starter.core.task import Outcome, OutcomeKind, Task
from pgflow_starter.core.text import one_line
from pgflow_starter.telemetry import names
from pgflow_starter.telemetry.carrying import sender_of
from pgflow_starter.telemetry.events import failure as failure_attributes
from pgflow_starter.telemetry.events import nanoseconds
from pgflow_starter.telemetry.providers import Providers


class Received:
    """A claim's span, who sent what it got, by headers, and what is said of each of its tasks. Immutable."""

    __slots__ = ("facts", "links", "name", "senders")

    def __init__(self, context: trace.SpanContext, senders: dict[str | None, Context], queue: str) -> None:
        self.senders = senders
        self.links = [Link(context)] if context.is_valid else []
        self.name = names.SPAN_PROCESS.format(queue)
        self.facts = facts(queue, "process")


class Processing:
    """`ports.HandlerObserver` of one task, once. `received` is its claim's `Received`, where it has one.

    A span's end may hang in its exporter.
    """

    __slots__ = (
        "_at",
        "_began",
        "_clock",
        "_current",
        "_failure",
        "_outcome",
        "_providers",
        "_received",
        "_seconds",
        "_span",
        "_task",
        "_token",
    )
    heard = True

    def __init__(self, providers: Providers, clock: Clock, task: Task, received: object | None) -> None:
        self._providers = providers
        self._clock = clock
        self._task = task
        self._received = received
        self._outcome: Outcome | None = None
        self._failure: Failure | None = None
        self._at: int | None = None

    def __enter__(self) -> RecordOutcome:
        task, providers = self._task, self._providers
        self._began = self._clock.monotonic()
        span: Span = trace.INVALID_SPAN
        sender: Context | None = None
        with providers.guard:
            claim = self._received
            if not isinstance(claim, Received):
                claim = Received(trace.INVALID_SPAN_CONTEXT, {}, task.flow_slug)
            sender = claim.senders.get(task.headers)
            if sender is None:
                sender = sender_of(task.headers)
            span = providers.tracer.start_span(
                claim.name, sender, SpanKind.CONSUMER, {**claim.facts, **_task(task)}, claim.links
            )
        self._span = span
        self._current = trace.set_span_in_context(span, Context() if sender is None else sender)
        self._token = attach(self._current)
        return self._record

    def _record(self, outcome: Outcome, failure: Failure | None) -> None:
        self._outcome, self._failure = outcome, failure

    def ended(self) -> None:
        self._leave()
        self._at = nanoseconds(self._clock)

    def _leave(self) -> None:
        detach(self._token)
        self._seconds = self._clock.monotonic() - self._began

    def __exit__(self, *_: object) -> None:
        if self._at is None:
            self._leave()
        providers, span, outcome = self._providers, self._span, self._outcome
        with providers.guard:
            if outcome is not None:
                span.set_attribute(names.TASK_OUTCOME, str(outcome.kind))
                if self._failure is not None:
                    self._tell(outcome, self._failure)
            span.end(self._at)
        with providers.guard:
            if providers.metrics and providers.instruments is not None:
                providers.instruments.process.record(self._seconds, _measured(self._task, outcome), self._current)

    def _tell(self, outcome: Outcome, failure: Failure) -> None:
        span = self._span
        failed(span, outcome.error_type, one_line(str(failure)))
        if span.is_recording() and (calls := failure.trace):
            attributes = {names.EXCEPTION_TYPE: failure.type, names.EXCEPTION_STACKTRACE: calls}
            if failure.message:
                attributes[names.EXCEPTION_MESSAGE] = failure.message
            self._providers.events.exception(attributes, span, at=self._at or nanoseconds(self._clock))


def failed(span: Span, kind: str, description: str | None = None) -> None:
    """Say so in the span."""
    span.set_attributes(failure_attributes(kind))
    span.set_status(Status(StatusCode.ERROR, description))


def facts(queue: str, operation: str) -> dict[str, Any]:
    """What is said of everything that is done with a queue."""
    return {
        names.MESSAGING_SYSTEM: "pgmq",
        names.MESSAGING_DESTINATION: queue,
        names.MESSAGING_OPERATION_NAME: operation,
        names.MESSAGING_OPERATION_TYPE: operation,
    }


def _task(task: Task) -> dict[str, Any]:
    waited = {} if task.waited is None else {names.TASK_WAIT: max(0.0, task.waited)}
    return {
        **waited,
        names.MESSAGING_DESTINATION: task.queue,
        names.MESSAGING_MESSAGE_ID: str(task.msg_id),
        names.RUN_ID: str(task.run_id),
        names.STEP: task.step_slug,
        names.TASK_INDEX: task.task_index,
        names.TASK_ATTEMPT: task.attempt,
    }


def _measured(task: Task, outcome: Outcome | None) -> dict[str, Any]:
    measured = {
        names.MESSAGING_SYSTEM: "pgmq",
        names.MESSAGING_DESTINATION: task.queue,
        names.MESSAGING_OPERATION_NAME: "process",
        names.STEP: task.step_slug,
    }
    if outcome is not None and outcome.kind not in (OutcomeKind.COMPLETED, OutcomeKind.SNOOZED):
        measured[names.ERROR_TYPE] = outcome.error_type
    return measured
