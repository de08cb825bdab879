"""The event loop's thread: one loop after another, calls that wait for the next, and an end that hangs on nobody."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import suppress
from queue import SimpleQueue
from typing import Any

import pytest

from pgflow_starter.clock import SystemClock
from pgflow_starter.testing import ManualTimers
from pgflow_starter.threads.cache import ThreadCache
from pgflow_starter.threads.event_loop import EventLoop
from pgflow_starter.threads.loop_watch import LoopWatch
from tests.threads.conftest import WAIT


@pytest.fixture
def event_loop() -> Iterator[EventLoop]:
    threads = ThreadCache("pgflow-test")
    loop = EventLoop(SystemClock(), ManualTimers(), threads)
    yield loop
    loop.close()
    assert threads.close(WAIT) == 0


def on(event_loop: EventLoop, coroutine: Any) -> SimpleQueue[Any]:
    """Have the coroutine run there; where its task comes."""
    told: SimpleQueue[Any] = SimpleQueue()
    event_loop.call(lambda: asyncio.get_running_loop().create_task(coroutine).add_done_callback(told.put))
    return told


def test_calls_of_any_thread_are_made_in_order_on_one_thread(event_loop: EventLoop) -> None:
    made: SimpleQueue[tuple[int, threading.Thread]] = SimpleQueue()
    for number in range(100):
        event_loop.call(lambda number=number: made.put((number, threading.current_thread())))  # type: ignore[misc]
    seen = [made.get(timeout=WAIT) for _ in range(100)]
    assert [number for number, _ in seen] == list(range(100))
    (thread,) = {thread for _, thread in seen}
    assert (thread.name, thread.daemon, event_loop.owns(thread)) == ("pgflow-event-loop", True, True)


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_what_a_task_lets_through_the_loop_or_who_stops_it_does_not_end_it(
    event_loop: EventLoop, kind: type[BaseException]
) -> None:
    async def raises() -> None:
        raise kind

    async def stops() -> None:
        asyncio.get_running_loop().stop()

    for coroutine in (raises(), stops()):
        with suppress(kind):
            on(event_loop, coroutine).get(timeout=WAIT).result()
    assert on(event_loop, asyncio.sleep(0, "there")).get(timeout=WAIT).result() == "there"


def test_a_loop_that_dies_says_that_all_is_lost_ends_it_and_the_next_has_the_calls_that_wait(
    event_loop: EventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    deaths: SimpleQueue[BaseException] = SimpleQueue()
    event_loop.revive(deaths.put)
    order: list[str] = []

    async def cut_short() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            order.append("cancelled")

    def lost() -> None:
        order.append("lost")
        event_loop.call(lambda: made.put(threading.current_thread()))

    made: SimpleQueue[threading.Thread] = SimpleQueue()
    event_loop.watch(lost)
    ended = on(event_loop, cut_short())
    assert on(event_loop, asyncio.sleep(0)).get(timeout=WAIT).done()
    select, broken = LoopWatch.select, threading.Event()

    def breaks(self: LoopWatch, timeout: float | None = None) -> Any:
        if not broken.is_set():
            broken.set()
            raise OSError("broken")
        return select(self, timeout)

    monkeypatch.setattr(LoopWatch, "select", breaks)
    event_loop.call(lambda: None)
    assert str(deaths.get(timeout=WAIT)) == "broken"
    assert (ended.get(timeout=WAIT).cancelled(), order) == (True, ["lost", "cancelled"])
    assert made.empty()
    event_loop.revive(deaths.put)
    assert event_loop.owns(made.get(timeout=WAIT))


def test_where_no_loop_can_be_made_it_is_tried_again(
    event_loop: EventLoop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    make, tries = LoopWatch.__init__, list[int]()

    def refuses(self: LoopWatch, *arguments: Any) -> None:
        tries.append(1)
        if len(tries) == 1:
            raise OSError(24, "Too many open files")
        make(self, *arguments)

    monkeypatch.setattr(LoopWatch, "__init__", refuses)
    assert on(event_loop, asyncio.sleep(0, "there")).get(timeout=WAIT).result() == "there"
    assert [r.getMessage() for r in caplog.records if r.name.startswith("pgflow")] == [
        "there is no event loop for async handlers yet: [Errno 24] Too many open files"
    ]


def test_its_end_cancels_what_runs_and_leaves_what_does_not_end_without_a_word(
    event_loop: EventLoop, caplog: pytest.LogCaptureFixture
) -> None:
    cancelled: list[str] = []

    async def stubborn() -> None:
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                cancelled.append("stubborn")

    async def generator() -> Any:
        try:
            yield 1
        finally:
            cancelled.append("generator")

    async def iterates() -> None:
        kept.append(generator())
        await anext(kept[0])
        await asyncio.sleep(3600)

    kept: list[Any] = []
    on(event_loop, stubborn())
    on(event_loop, iterates())
    assert on(event_loop, asyncio.sleep(0.01)).get(timeout=WAIT).done()
    event_loop.close()
    assert sorted(cancelled) == ["generator", "stubborn"]
    assert caplog.records == []
    event_loop.call(lambda: cancelled.append("too late"))
    assert "too late" not in cancelled


def test_a_call_on_a_thread_is_cancelled_before_it_begins_and_raises_what_it_does(event_loop: EventLoop) -> None:
    begun, go = threading.Semaphore(0), threading.Event()
    made: list[int] = []

    def call(number: int) -> None:
        made.append(number)
        begun.release()
        go.wait(WAIT)
        raise LookupError(number)

    async def main() -> list[Any]:
        tasks = [asyncio.create_task(asyncio.to_thread(call, number)) for number in range(33)]
        while not begun.acquire(blocking=False):
            await asyncio.sleep(0.001)
        tasks[32].cancel()
        await asyncio.wait(tasks[32:])
        go.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    *raised, cancelled = on(event_loop, main()).get(timeout=WAIT).result()
    assert [str(error) for error in raised] == [str(number) for number in range(32)]
    assert isinstance(cancelled, asyncio.CancelledError)
    assert sorted(made) == list(range(32))
