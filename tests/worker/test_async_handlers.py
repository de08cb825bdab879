"""Handlers that are `async def`: on one event loop beside plain ones, cancelled in time, and in nobody's way."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

import pgflow_starter as pgflow
from pgflow_starter.threads.loop_watch import LoopWatch
from tests.support.starters import running
from tests.support.waiting import eventually
from tests.worker.test_carried_context import Traced

WAIT = 30.0


def told(caplog: pytest.LogCaptureFixture, words: str) -> list[str]:
    return [r.getMessage() for r in caplog.records if words in r.getMessage()]


class Waits:
    """A coroutine's wait for a thread's event, without a thread of its own, and what ended it."""

    def __init__(self) -> None:
        self.begun: list[Any] = []
        self.cancelled: list[Any] = []
        self.go = threading.Event()

    async def wait(self, message: Any, ctx: pgflow.TaskContext) -> Any:
        self.begun.append(message)
        try:
            while not self.go.is_set():
                await asyncio.sleep(0.05)
        except asyncio.CancelledError:
            self.cancelled.append((message, ctx.cancelled.is_set()))
            raise
        return message


def test_async_and_plain_steps_of_one_flow_get_the_same_and_run_where_they_should(database: str) -> None:
    flow = pgflow.Flow("mixed")
    threads: dict[str, set[str]] = {"async": set(), "plain": set()}

    @flow.step()
    async def load(given: Any, ctx: pgflow.TaskContext) -> Any:
        threads["async"].add(threading.current_thread().name)
        await asyncio.sleep(0)
        return [given, ctx.flow_input, ctx.attempt]

    @flow.map("load")
    def plain(item: Any, ctx: pgflow.TaskContext) -> Any:
        threads["plain"].add(threading.current_thread().name)
        return item

    @flow.map("load", slug="other")
    async def other(item: Any, ctx: pgflow.TaskContext) -> Any:
        threads["async"].add(threading.current_thread().name)
        return await asyncio.to_thread(lambda: item)

    @flow.step(depends_on=["plain", "other"])
    async def both(deps: Any, ctx: pgflow.TaskContext) -> Any:
        return deps

    with running(database, flows=[flow], signal_strategy="notify") as starter:
        assert starter.client.start_flow(flow, 7).wait(WAIT).result == {"plain": [7, 7, 1], "other": [7, 7, 1]}
        for run in starter.client.start_flows(flow, list(range(50))):
            assert run.wait(WAIT).status == "completed"
        assert len(threads["async"]) == 1
        assert not threads["async"] & threads["plain"]
        assert "event-loop" in [child.id for child in starter.which_children() if child.parent == "root"]


def test_as_many_coroutines_wait_at_once_as_may_and_hold_no_threads(database: str) -> None:
    waits = Waits()
    job = pgflow.job("waits", max_concurrency=200)(waits.wait)
    with running(database, jobs=[job], signal_strategy="notify", batch_size=50) as starter:
        starter.await_ready(WAIT)
        before = threading.active_count()
        runs = starter.client.enqueue_many(job, list(range(210)))
        eventually(lambda: len(waits.begun) == 200, WAIT)
        assert starter.workers()[0].running == 200
        assert threading.active_count() - before < 20
        waits.go.set()
        assert sorted(run.wait(WAIT).result for run in runs) == list(range(210))


def test_a_coroutine_is_cancelled_at_its_timeout_and_does_not_count_as_one_that_hangs(
    database: str, caplog: pytest.LogCaptureFixture
) -> None:
    waits = Waits()
    job = pgflow.job("late", timeout=1, max_attempts=2, base_delay=0)(waits.wait)
    with running(database, jobs=[job]) as starter:
        run = starter.client.enqueue(job, "x")
        eventually(lambda: waits.cancelled, WAIT)
        waits.go.set()
        assert run.wait(WAIT).result == "x"
        assert (waits.begun, waits.cancelled) == (["x", "x"], [("x", True)])
        eventually(lambda: starter.workers()[0].abandoned == 0, WAIT)
    (line,) = told(caplog, "failed in attempt")
    assert line.endswith("TimeoutError: the task has not ended within its timeout of 1 s")


def test_a_coroutine_whose_run_is_cancelled_is_so_too_and_nobody_warns(
    database: str, caplog: pytest.LogCaptureFixture
) -> None:
    waits = Waits()
    job = pgflow.job("unwanted", max_concurrency=1)(waits.wait)
    with running(database, jobs=[job]) as starter:
        one = starter.client.enqueue(job, "one")
        eventually(lambda: waits.begun, WAIT)
        two = starter.client.enqueue(job, "two")
        starter.client.cancel(two.id)
        starter.client.cancel(one.id)
        eventually(lambda: waits.cancelled == [("one", True)], WAIT)
        waits.go.set()
        assert starter.client.enqueue(job, "three").wait(WAIT).result == "three"
    assert waits.begun == ["one", "three"]
    assert [r for r in caplog.records if r.levelname in ("WARNING", "ERROR")] == []


def test_a_coroutine_that_goes_on_when_it_is_cancelled_is_given_up_and_counts_until_it_ends(database: str) -> None:
    ended, caught = threading.Event(), []

    @pgflow.job("stubborn", timeout=1, max_attempts=1)
    async def stubborn(message: Any, ctx: pgflow.TaskContext) -> str:
        while not ended.is_set():
            try:
                await asyncio.sleep(0.05)
            except asyncio.CancelledError as error:
                caught.append(error)
        return "too late"

    try:
        with running(database, jobs=[stubborn]) as starter:
            run = starter.client.enqueue(stubborn).wait(WAIT)
            assert (run.status, run.error) == (
                "failed",
                "TimeoutError: the task has not ended within its timeout of 1 s",
            )
            eventually(lambda: caught, WAIT)
            assert starter.workers()[0].abandoned == 1
            ended.set()
            eventually(lambda: starter.workers()[0].abandoned == 0, WAIT)
            assert run.refresh().status == "failed"
    finally:
        ended.set()


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


def _raise(kind: type[BaseException]) -> None:
    raise kind("over\nand out")


@pytest.mark.parametrize("kind", [ValueError, SystemExit, KeyboardInterrupt, asyncio.CancelledError])
def test_what_a_coroutine_raises_fails_it_with_the_text_of_a_plain_handler_and_ends_no_loop(
    database: str, kind: type[BaseException]
) -> None:
    def plain(message: Any, ctx: pgflow.TaskContext) -> None:
        _raise(kind)

    async def coroutine(message: Any, ctx: pgflow.TaskContext) -> None:
        _raise(kind)

    async def child(message: Any, ctx: pgflow.TaskContext) -> None:
        async def raises() -> None:
            _raise(kind)

        await asyncio.create_task(raises())

    jobs = [pgflow.job(handler.__name__, max_attempts=1)(handler) for handler in (plain, coroutine, child)]
    with running(database, jobs=jobs) as starter:
        texts = [str(starter.client.enqueue(job).wait(WAIT).error) for job in jobs]
        assert [child.restarts for child in starter.which_children() if child.id == "event-loop"] == [0]
    assert "over\nand out" in texts[0]
    there, here = (f"line {h.__code__.co_firstlineno + 1}, in {h.__name__}" for h in (plain, coroutine))
    assert texts[1] == texts[0].replace(there, here)
    assert texts[2].splitlines()[0] == texts[0].splitlines()[0]


def test_a_coroutine_may_snooze_and_an_object_or_an_async_mock_may_be_the_handler(database: str) -> None:
    attempts: list[int] = []

    class Sleepy:
        async def __call__(self, given: Any, ctx: pgflow.TaskContext) -> str:
            attempts.append(ctx.attempt)
            if len(attempts) == 1:
                raise pgflow.Snooze(0)
            return "awake"

    job = pgflow.job("sleepy", max_attempts=1)(Sleepy())
    with running(database, jobs=[job]) as starter:
        assert starter.client.enqueue(job).wait(WAIT).result == "awake"
    assert attempts == [1, 1]


def test_a_decorator_that_makes_a_plain_function_of_a_coroutine_function_is_told(
    database: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def send(message: Any, ctx: pgflow.TaskContext) -> None: ...

    @pgflow.job("wrapped", max_attempts=1)
    @wraps(send)
    def wrapped(*args: Any) -> Any:
        return send(*args)

    with running(database, jobs=[wrapped]) as starter:
        run = starter.client.enqueue(wrapped).wait(WAIT)
    assert str(run.error).startswith("the handler's output cannot be stored: it is a coroutine, which nobody awaits")
    (line,) = told(caplog, "failed in attempt")
    assert "TypeError: it is a coroutine, which nobody awaits" in line


def test_middleware_is_entered_around_the_coroutine_on_the_loop(database: str) -> None:
    seen: list[tuple[str, str]] = []

    def say(what: str) -> None:
        seen.append((what, threading.current_thread().name))

    def around(name: str) -> Callable[[pgflow.TaskContext], Any]:
        @contextmanager
        def manager(ctx: pgflow.TaskContext) -> Iterator[None]:
            say(f"enter {name}")
            try:
                yield
            except LookupError:
                say(f"{name} has seen it")
                raise

        return manager

    @pgflow.job("within", max_attempts=1)
    async def within(message: Any, ctx: pgflow.TaskContext) -> None:
        await asyncio.sleep(0)
        say("handler")
        raise LookupError

    with running(database, jobs=[within], middleware=[around("one"), around("two")]) as starter:
        starter.client.enqueue(within).wait(WAIT)
    assert [what for what, _ in seen] == ["enter one", "enter two", "handler", "two has seen it", "one has seen it"]
    assert {thread for _, thread in seen} == {"pgflow-event-loop"}


def test_a_stop_lets_coroutines_end_then_cancels_them_and_gives_back_what_they_did(
    database: str, caplog: pytest.LogCaptureFixture
) -> None:
    waits = Waits()
    job = pgflow.job("stopped", max_attempts=1)(waits.wait)
    with running(database, jobs=[job]) as starter:
        run = starter.client.enqueue(job, "ends")
        eventually(lambda: waits.begun, WAIT)
        stopping = threading.Thread(target=starter.stop, args=(WAIT,))
        stopping.start()
        eventually(lambda: not starter_is_up(starter), WAIT)
        waits.go.set()
        stopping.join(WAIT)
        waits.go.clear()
    with running(database, jobs=[job]) as starter:
        assert run_of(starter, run).status == "completed"
        other = starter.client.enqueue(job, "cut short")
        eventually(lambda: len(waits.begun) == 2, WAIT)
        starter.stop(0)
        assert waits.cancelled == [("cut short", True)]
    assert len(told(caplog, "1 tasks did not end in time and are given back: step stopped of run")) == 1
    waits.go.set()
    with running(database, jobs=[job]) as starter:  # no attempt was burnt
        assert starter.client.run(other.id).wait(WAIT).result == "cut short"


def starter_is_up(starter: pgflow.Starter) -> bool:
    try:
        starter.status()
    except pgflow.StarterStopped:
        return False
    return True


def run_of(starter: pgflow.Starter, run: pgflow.Run) -> pgflow.Run:
    return starter.client.run(run.id)


def test_a_loop_that_dies_is_started_again_and_its_tasks_come_back_with_no_attempt_burnt(
    database: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    waits = Waits()
    attempts: list[int] = []

    @pgflow.job("revived", max_attempts=1)
    async def revived(message: Any, ctx: pgflow.TaskContext) -> Any:
        attempts.append(ctx.attempt)
        return await waits.wait(message, ctx)

    died = threading.Event()
    select = LoopWatch.select

    def dies(self: LoopWatch, timeout: float | None = None) -> Any:
        if not died.is_set():
            died.set()
            raise OSError("the selector is broken")
        return select(self, timeout)

    with running(database, jobs=[revived]) as starter:
        runs = starter.client.enqueue_many(revived, [1, 2, 3])
        eventually(lambda: len(waits.begun) == 3, WAIT)
        monkeypatch.setattr(LoopWatch, "select", dies)
        assert died.wait(WAIT)
        eventually(lambda: len(waits.begun) == 6, WAIT)
        waits.go.set()
        assert [run.wait(WAIT).result for run in runs] == [1, 2, 3]
        (child,) = [child for child in starter.which_children() if child.id == "event-loop"]
        state = starter.workers()[0]
    assert (child.restarts, state.abandoned, state.completed) == (1, 0, 3)
    assert (attempts, len(waits.cancelled)) == ([1] * 6, 3)
    assert told(caplog, "failed in attempt") == []


def test_tasks_that_another_handler_cancels_before_their_first_step_are_tried_again_and_hang_for_nobody(
    database: str,
) -> None:
    begun: list[tuple[int, int]] = []

    @pgflow.job("bully", timeout=1, max_attempts=2, base_delay=0)
    async def bully(number: int, ctx: pgflow.TaskContext) -> int:
        begun.append((number, ctx.attempt))
        if len(begun) == 1:
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()
        return number

    with pgflow.PgflowClient(database) as client:  # so that all three are claimed at once
        runs = client.enqueue_many(bully, [1, 2, 3])
    with running(database, jobs=[bully]) as starter:
        assert [starter.client.run(run.id).wait(WAIT).result for run in runs] == [1, 2, 3]
        eventually(lambda: starter.workers()[0].abandoned == 0, WAIT)
    assert min(begun) == (1, 1)
    assert len(begun) == 3
