"""Calls on threads that coroutines await: so many at a time, and what a cancellation leaves of them."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from functools import partial
from typing import Any

import pytest

from pgflow_starter.threads.awaited import Awaited, NotBegunError
from pgflow_starter.threads.off_main import NoThreadError

WAIT = 30.0
TRACE = ContextVar("trace", default="none")


@pytest.fixture
def awaited() -> Iterator[Awaited]:
    """One call at a time."""
    calls = Awaited("pgflow-test", 1)
    yield calls
    calls.close()


class Call:
    """A call that says that it has begun, waits to be released, and says that it has ended."""

    def __init__(self, release: threading.Event) -> None:
        self.begun, self.ended, self._release = threading.Event(), threading.Event(), release

    def __call__(self) -> str:
        self.begun.set()
        self._release.wait()
        self.ended.set()
        return "done"

    async def has_begun(self) -> None:
        assert await asyncio.to_thread(self.begun.wait, WAIT)


async def _raised(awaitable: Any) -> BaseException | None:
    try:
        await awaitable
    except (Exception, asyncio.CancelledError) as error:
        return error
    return None


def test_what_a_call_returns_or_raises_is_what_is_awaited(awaited: Awaited) -> None:
    error = LookupError("nothing there")

    def fail() -> None:
        raise error

    async def main() -> None:
        assert await awaited(lambda: 7) == 7
        assert await _raised(awaited(fail)) is error
        assert await asyncio.gather(*(awaited(partial(abs, n)) for n in range(20))) == list(range(20))

    asyncio.run(main())


def test_a_call_knows_its_callers_context(awaited: Awaited) -> None:
    async def main() -> list[str]:
        TRACE.set("a span")
        first = await awaited(TRACE.get)
        TRACE.set("another")
        return [first, await awaited(TRACE.get)]

    assert asyncio.run(main()) == ["a span", "another"]


def test_who_is_cancelled_waits_no_more_and_a_call_that_has_begun_ends_by_itself(
    awaited: Awaited, release: threading.Event
) -> None:
    call, second = Call(release), Call(release)

    async def main() -> None:
        first = asyncio.create_task(awaited(call))
        await call.has_begun()
        queued = asyncio.create_task(awaited(second))
        await asyncio.sleep(0)
        for task in (queued, first):
            task.cancel()
            assert isinstance(await _raised(task), asyncio.CancelledError)
        assert not call.ended.is_set()
        release.set()
        assert await awaited(lambda: "the next") == "the next"

    asyncio.run(main())
    assert call.ended.is_set()
    assert not second.begun.is_set()  # it would have been before the next


def test_one_that_is_to_be_awaited_to_its_end_is_cancelled_then(awaited: Awaited, release: threading.Event) -> None:
    call, second = Call(release), Call(release)

    async def main() -> None:
        task = asyncio.create_task(awaited(call, to_its_end=True))
        await call.has_begun()
        queued = asyncio.create_task(awaited(second, to_its_end=True))
        await asyncio.sleep(0)
        queued.cancel()
        assert isinstance(await _raised(queued), asyncio.CancelledError)
        for _ in range(3):
            task.cancel()
            await asyncio.wait([task], timeout=0.01)
            assert not task.done()
        release.set()
        assert isinstance(await _raised(task), asyncio.CancelledError)
        assert call.ended.is_set()

    asyncio.run(main())
    assert not second.begun.is_set()


def test_one_that_has_not_begun_in_time_never_does_and_is_before_those_that_have_time(
    awaited: Awaited, release: threading.Event
) -> None:
    call, late, order = Call(release), Call(release), list[str]()

    async def main() -> None:
        first = asyncio.create_task(awaited(call, begins_within=WAIT))
        await call.has_begun()
        assert isinstance(await _raised(awaited(late, begins_within=0.01)), NotBegunError)
        others = [
            asyncio.create_task(awaited(partial(order.append, "has time"))),
            asyncio.create_task(awaited(partial(order.append, "in time"), begins_within=WAIT)),
        ]
        await asyncio.sleep(0)
        release.set()
        assert await first == "done"
        await asyncio.gather(*others)

    asyncio.run(main())
    assert order == ["in time", "has time"]
    assert not late.begun.is_set()


def test_one_that_has_begun_in_time_may_take_its_time(awaited: Awaited, release: threading.Event) -> None:
    call = Call(release)

    async def main() -> None:
        task = asyncio.create_task(awaited(call, begins_within=0.0))
        await call.has_begun()
        await asyncio.wait([task], timeout=0.01)
        release.set()
        assert await task == "done"

    asyncio.run(main())


def test_what_a_cancelled_call_raises_is_dropped(awaited: Awaited, release: threading.Event) -> None:
    told: list[Any] = []
    call = Call(release)

    def fail() -> None:
        call()
        raise LookupError

    async def main(*, to_its_end: bool) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
        task = asyncio.create_task(awaited(fail, to_its_end=to_its_end))
        await call.has_begun()
        task.cancel()
        await asyncio.wait([task], timeout=0.01)
        release.set()
        assert isinstance(await _raised(task), asyncio.CancelledError)
        await awaited(lambda: None)
        del task
        gc.collect()

    for to_its_end in (False, True):
        release.clear()
        call.begun.clear()
        asyncio.run(main(to_its_end=to_its_end))
    assert told == []


def test_loops_of_several_threads_are_served_and_one_that_has_ended_meanwhile_is_no_matter(
    awaited: Awaited, release: threading.Event
) -> None:
    call, answers = Call(release), list[str]()

    async def leave() -> None:
        asyncio.get_running_loop().create_task(awaited(call))
        await call.has_begun()

    def beside(main: Callable[[], Any]) -> threading.Thread:
        thread = threading.Thread(target=lambda: asyncio.run(main()))
        thread.start()
        return thread

    async def ask() -> None:
        answers.append(await awaited(lambda: "answered"))

    beside(leave).join(WAIT)
    threads = [beside(ask) for _ in range(3)]
    release.set()
    for thread in threads:
        thread.join(WAIT)
    assert answers == ["answered"] * 3


def test_after_close_there_is_no_thread_and_what_has_begun_is_still_answered(release: threading.Event) -> None:
    awaited = Awaited("pgflow-test", 1)
    call = Call(release)

    async def main() -> None:
        first, second = (asyncio.create_task(awaited(call)) for _ in range(2))
        await call.has_begun()
        awaited.close()
        awaited.close()
        for beside in (False, True):
            assert isinstance(await _raised(awaited(lambda: 1, beside=beside)), NoThreadError)
        release.set()
        assert [await first, await second] == ["done"] * 2

    asyncio.run(main())
