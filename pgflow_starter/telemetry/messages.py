"""`OtelMessages`: messages that are sent, received and processed, told by OpenTelemetry's messaging conventions.

    send <queue>        PRODUCER, below what its caller has current
    receive <queue>     CLIENT, a claim that got messages, linked to their senders
    process <queue>     CONSUMER, below the sender, linked to the claim
    run <flow>          INTERNAL, below the sender, made when the run has ended

Each message of a run carries the context of the run's sender: those of its first steps are given it by who starts the
run, those of the steps that follow by whoever did the steps before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any
from uuid import UUID

from opentelemetry import trace
from opentelemetry.context import Context, attach, detach
from opentelemetry.trace import Link, Span, SpanKind

from pgflow_starter.clock import Clock
from pgflow_starter.core.classify import error_type
from pgflow_starter.core.failure import Failure, RecordOutcome
from pgflow_starter.core.runs import EndedRun
from pgflow_starter.core.task import Claimed, Outcome, Task
from pgflow_starter.telemetry import names
from pgflow_starter.telemetry.carrying import carried_of, headers_of, sender_of
from pgflow_starter.telemetry.events import NANOSECONDS, nanoseconds
from pgflow_starter.telemetry.processing import Processing, Received, facts, failed
from pgflow_starter.telemetry.providers import Providers
from pgflow_starter.telemetry.runs import tell_ended

if TYPE_CHECKING:
    from pgflow_starter.ports import HandlerObserver

_no_headers: AbstractContextManager[None] = nullcontext()
_UNHEARD = object()


class _Unheard:
    """`ports.HandlerObserver` where nobody listens."""

    __slots__ = ()
    heard = False

    def __enter__(self) -> RecordOutcome:
        return _drop

    def ended(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


def _drop(outcome: Outcome, failure: Failure | None) -> None: ...


_unheard = _Unheard()


class OtelMessages:
    """`ports.MessageObserver`. Thread-safe; what a provider raises is logged and goes no further.

    Of an error only its type is told, its words may quote the message; of a task's failure what its `Failure` says.
    Where nobody listens a message costs nothing.
    """

    def __init__(self, providers: Providers, clock: Clock) -> None:
        self._providers = providers
        self._clock = clock

    def sending(
        self, queue: str, run_ids: Sequence[UUID], rerun_of: Sequence[UUID] = ()
    ) -> AbstractContextManager[str | None]:
        """A span around it, current meanwhile, and its context as headers; None where nobody traces."""
        return self._sending(queue, run_ids, rerun_of) if self._providers.traces else _no_headers

    def woken(self, queue: str) -> None:
        """Counted."""
        if self._providers.metrics:
            with self._providers.guard:
                if self._providers.instruments is not None:
                    self._providers.instruments.wakeups.add(1, {names.MESSAGING_DESTINATION: queue})

    def received(self, queue: str, claimed: Claimed, seconds: float) -> object | None:
        """A span as long as it took, made afterwards, for most claims get nothing; for `processing` to link to.

        Where nobody listens `processing` is told so by this, and does not look again for each task.
        """
        if self._providers.traces:
            return self._received(queue, claimed, seconds) if claimed.read else None
        return None if self._providers.metrics else _UNHEARD

    def processing(self, task: Task, received: object | None) -> HandlerObserver:
        """A span around a task's handler, current meanwhile; to be told of the outcome. And its duration."""
        heard = received is not _UNHEARD and (self._providers.traces or self._providers.metrics)
        return Processing(self._providers, self._clock, task, received) if heard else _unheard

    def carried(self, headers: str) -> str | None:
        """Those with which a trace context travels: whether somebody traces here or not, others may."""
        with self._providers.guard:
            return carried_of(headers)
        return None

    @property
    def traces(self) -> bool:
        """Whether anybody traces."""
        return bool(self._providers.traces)

    def ended(self, runs: Sequence[EndedRun]) -> None:
        """A span for each, which may hang in its exporter."""
        if runs and self._providers.traces:
            for run in runs:
                tell_ended(self._providers, run)

    @contextmanager
    def _sending(self, queue: str, run_ids: Sequence[UUID], rerun_of: Sequence[UUID]) -> Iterator[str | None]:
        span: Span = trace.INVALID_SPAN
        headers: str | None = None
        with self._providers.guard:
            span = self._providers.tracer.start_span(
                names.SPAN_SEND.format(queue), None, SpanKind.PRODUCER, {**facts(queue, "send"), **_runs(run_ids)}
            )
            if len(rerun_of) == 1:
                span.set_attribute(names.RERUN_OF, str(rerun_of[0]))
            headers = headers_of(span)
        token = attach(trace.set_span_in_context(span)) if headers is not None else None
        try:
            yield headers
        except BaseException as error:
            with self._providers.guard:
                failed(span, error_type(error))
            raise
        finally:
            if token is not None:
                detach(token)
            with self._providers.guard:
                span.end()

    def _received(self, queue: str, claimed: Claimed, seconds: float) -> object | None:
        with self._providers.guard:
            end = nanoseconds(self._clock)
            attributes = {**facts(queue, "receive"), names.MESSAGING_BATCH_COUNT: claimed.read}
            senders = {headers: sender_of(headers) for headers in {task.headers for task in claimed.tasks}}
            contexts = [trace.get_current_span(sender).get_span_context() for sender in senders.values()]
            span = self._providers.tracer.start_span(
                names.SPAN_RECEIVE.format(queue),
                Context(),
                SpanKind.CLIENT,
                attributes,
                [Link(context) for context in contexts if context.is_valid],
                start_time=end - int(seconds * NANOSECONDS),
            )
            span.end(end)
            return Received(span.get_span_context(), senders, queue)
        return None


def _runs(run_ids: Sequence[UUID]) -> dict[str, Any]:
    if len(run_ids) == 1:
        return {names.RUN_ID: str(run_ids[0])}
    return {names.MESSAGING_BATCH_COUNT: len(run_ids)}
