"""Handlers that are `async def`: on one event loop beside plain ones, called and failing as these are."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import pytest

import pgflow_starter as pgflow
from tests.support.starters import running
from tests.support.waiting import eventually
from tests.worker.async_rig import WAIT, Waits, told


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
