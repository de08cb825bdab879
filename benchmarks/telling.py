"""What telling OpenTelemetry costs: an attempt with its phases, a task, a send; without an SDK and with one.

Pure Python on this thread, without a database. The SDK's spans and log records go to batch processors whose exporters
throw them away; their threads share the processor with what is measured.
"""

from __future__ import annotations

import timeit
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from uuid import UUID

from opentelemetry.sdk._logs import LoggerProvider, ReadableLogRecord
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from benchmarks.figures import Figure
from pgflow_starter.clock import SystemClock
from pgflow_starter.core.phases import Phase
from pgflow_starter.core.state import ModuleState, ModuleStatus, ModuleType
from pgflow_starter.core.task import Claimed, Outcome, OutcomeKind, Task
from pgflow_starter.telemetry.messages import OtelMessages
from pgflow_starter.telemetry.observer import OtelObserver
from pgflow_starter.telemetry.providers import Providers

CALLS = 5_000
ATTEMPT_TARGET, TASK_TARGET = 40.0, 10.0
"""Microseconds, without an SDK."""


def measure(repetitions: int) -> Iterator[Figure]:
    """The table's rows, in microseconds."""
    silent = Providers(SystemClock())
    yield Figure("an attempt of four phases, no SDK", _times(_attempts(silent), repetitions), ATTEMPT_TARGET, "µs")
    yield Figure("a task: received, processed, woken; no SDK", _times(_tasks(silent), repetitions), TASK_TARGET, "µs")
    yield Figure("a send, no SDK", _times(_sends(silent), repetitions), TASK_TARGET, "µs")
    tracer, meter, logger = TracerProvider(), MeterProvider([InMemoryMetricReader()]), LoggerProvider()
    tracer.add_span_processor(BatchSpanProcessor(_NoSpans()))
    logger.add_log_record_processor(BatchLogRecordProcessor(_NoLogs()))
    try:
        heard = Providers(SystemClock(), tracer, meter, logger)
        yield Figure("an attempt, traces, metrics and logs", _times(_attempts(heard), repetitions), None, "µs")
        yield Figure("a task, traces and metrics", _times(_tasks(heard), repetitions), None, "µs")
        yield Figure("a send, traces", _times(_sends(heard), repetitions), None, "µs")
    finally:
        for provider in (tracer, meter, logger):
            provider.shutdown()


def _times(call: Callable[[], object], repetitions: int) -> list[float]:
    timeit.timeit(call, number=CALLS // 10)
    return [timeit.timeit(call, number=CALLS) / CALLS * 1e6 for _ in range(repetitions)]


def _attempts(providers: Providers) -> Callable[[], object]:
    clock = SystemClock()
    observer = OtelObserver(providers, clock, str)
    state = ModuleState("shop", "shop", ModuleType.FLOW, ModuleStatus.SUCCEEDED, 1, None, None, None, clock.now())

    def attempt() -> None:
        told = observer.attempt(state, None, observer.asking())
        for phase in Phase:
            watched = told.phase(phase)
            if watched is not None:
                with watched.current():
                    pass
                watched.ended(None)
        told.ended(state, None)

    return attempt


def _tasks(providers: Providers) -> Callable[[], object]:
    messages = OtelMessages(providers, SystemClock())
    headers = '{"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}'
    task = Task(UUID(int=1), "shop", "a", 0, 1, 1, None, None, headers=headers)
    claimed, outcome = Claimed(1, (task,)), Outcome(task, OutcomeKind.COMPLETED)

    def process() -> None:
        messages.woken("shop")
        received = messages.received("shop", claimed, 0.001)
        with messages.processing(task, received) as told:
            told(outcome, None)

    return process


def _sends(providers: Providers) -> Callable[[], object]:
    messages = OtelMessages(providers, SystemClock())
    run_ids = (UUID(int=1),)

    def send() -> None:
        with messages.sending("shop", run_ids):
            pass

    return send


class _NoSpans(SpanExporter):
    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return SpanExportResult.SUCCESS


class _NoLogs(LogRecordExporter):
    def export(self, batch: Sequence[ReadableLogRecord]) -> Any:
        return LogRecordExportResult.SUCCESS

    def shutdown(self) -> None: ...

    def force_flush(self, timeout_millis: int = 10_000) -> bool:
        return True
