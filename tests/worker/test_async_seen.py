"""What is seen of coroutines: spans, and a loop that is blocked; who looks keeps none of them waiting."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

import pgflow_starter as pgflow
from tests.support.starters import running
from tests.support.waiting import eventually
from tests.worker.async_rig import WAIT, Waits, told
from tests.worker.test_carried_context import Traced


def test_a_blocked_loop_is_said_once_with_the_step_and_the_line_and_harms_only_what_is_on_it(
    database: str, caplog: pytest.LogCaptureFixture, release: threading.Event
) -> None:
    waits, flow = Waits(), pgflow.Flow("blocking", max_attempts=1)

    async def helper() -> None:
        release.wait()  # the line

    @flow.step()
    async def blocks(given: Any, ctx: pgflow.TaskContext) -> None:
        while not waits.begun:
            await asyncio.sleep(0.05)
        await asyncio.gather(helper())

    flow.step(slug="late", timeout=1)(waits.wait)
    plain = pgflow.job("plain")(lambda message, ctx: message)

    @pgflow.job("patient", max_attempts=1, timeout=1)
    async def patient(message: Any, ctx: pgflow.TaskContext) -> int:
        return ctx.attempt

    with running(database, flows=[flow], jobs=[plain, patient]) as starter:
        starter.await_ready(WAIT)
        run = starter.client.start_flow(flow)
        (line,) = eventually(lambda: told(caplog, "the event loop is blocked"), WAIT)
        held_up = starter.client.enqueue(patient)
        assert starter.client.enqueue(plain, 1).wait(WAIT).result == 1
        failed = run.wait(WAIT)  # by the timeout of the step beside it
        assert (failed.status, "TimeoutError" in str(failed.error)) == ("failed", True)
        release.set()
        assert held_up.wait(WAIT).result == 1  # its time did not count
        eventually(lambda: waits.cancelled, WAIT)
    assert "blocked by blocking.blocks, for 1." in line
    _, *frames = line.splitlines()
    number = helper.__code__.co_firstlineno + 1
    assert frames[0] == f'  File "{__file__}", line {number}, in helper'
    assert all("pgflow_starter/" not in frame for frame in frames)
    assert told(caplog, "the event loop is blocked") == [line]


def test_the_span_is_current_in_a_coroutine_its_tasks_and_threads_and_no_context_leaks(database: str) -> None:
    traced, flow = Traced(), pgflow.Flow("order", max_attempts=1)
    mine = contextvars.ContextVar("mine", default="unset")

    def now() -> tuple[str, int]:
        return mine.get(), trace.get_current_span().get_span_context().span_id

    @flow.map()
    async def each(item: Any, ctx: pgflow.TaskContext) -> Any:
        seen = [now()]
        mine.set(f"of {item}")
        await asyncio.sleep(0)

        async def child() -> tuple[str, int]:
            return now()

        return [*seen, now(), await asyncio.create_task(child()), await asyncio.to_thread(now)]

    @flow.step(depends_on=["each"])
    async def fails(deps: Any, ctx: pgflow.TaskContext) -> Any:
        await asyncio.sleep(0)
        raise LookupError(f"{now()[0]} here")

    with running(database, flows=[flow], tracer_provider=traced.provider) as starter:
        with traced.provider.get_tracer("test").start_as_current_span("request") as request:
            run = starter.client.start_flow(flow, [1, 2])
        assert str(run.wait(WAIT).error).startswith("LookupError: unset here")
        outputs = next(step for step in run.steps() if step.slug == "each").output
        *_, failed = spans = traced.named("process order", 3)
    ids = {span.context.span_id for span in spans[:2]}
    for number, seen in enumerate(outputs, 1):
        assert [value for value, _ in seen] == ["unset", f"of {number}", f"of {number}", f"of {number}"]
        assert len({span_id for _, span_id in seen}) == 1
        ids.discard(seen[0][1])
    assert ids == set()
    assert {span.context.trace_id for span in spans[:2]} == {request.get_span_context().trace_id}
    assert failed.attributes is not None
    assert failed.attributes["error.type"] == "LookupError"
    assert [event.name for event in failed.events] == ["exception"]


def test_a_tracer_and_a_log_that_hang_keep_no_coroutine_waiting(database: str, release: threading.Event) -> None:
    hung = threading.Event()

    class Hangs(SpanExporter):
        def export(self, spans: Any) -> SpanExportResult:
            if any(span.name == "process hung" for span in spans):
                hung.set()
                release.wait()
            return SpanExportResult.SUCCESS

    class Log(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "failed in attempt" in record.getMessage():
                release.wait()

    traced, log = Traced(), Log()
    traced.provider.add_span_processor(SimpleSpanProcessor(Hangs()))

    @pgflow.job("hung", max_attempts=1)
    async def job(message: Any, ctx: pgflow.TaskContext) -> Any:
        return 1 / message

    logging.getLogger("pgflow_starter.workers").addHandler(log)
    try:
        with running(database, jobs=[job], tracer_provider=traced.provider) as starter:
            assert starter.client.enqueue(job, 1).wait(WAIT).result == 1
            assert hung.wait(WAIT)
            assert starter.client.enqueue(job, 0).wait(WAIT).status == "failed"
            assert starter.client.enqueue(job, 2).wait(WAIT).result == 0.5
            release.set()
    finally:
        logging.getLogger("pgflow_starter.workers").removeHandler(log)
