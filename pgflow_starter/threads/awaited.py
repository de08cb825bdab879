"""`Awaited`: calls that block, made on threads and awaited by coroutines, of any number of event loops.

So many at a time; the others wait for their turn. Who is cancelled stops waiting: a call that has begun ends by itself,
and what it comes to is dropped; one that has not never begins.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from typing import Generic, TypeVar

from pgflow_starter.threads.cache import ThreadCache
from pgflow_starter.threads.lane import Lane, Turn
from pgflow_starter.threads.off_main import NoThreadError

T = TypeVar("T")


class NotBegunError(Exception):
    """A call has not begun in time, and never will."""


class Awaited:
    """`width` calls at a time, on threads that are kept for the next ones while warm. Thread-safe."""

    def __init__(self, name: str, width: int) -> None:
        self._cache = ThreadCache(name)
        self._lane = Lane(self._cache, width)
        self._closed = False

    def run(self, call: Callable[[], object]) -> None:
        """Make a call that nobody waits for, on a thread beside the others. Raises NoThreadError as a call does."""
        try:
            self._cache.run(call)
        except RuntimeError as error:
            raise NoThreadError(str(error)) from error

    async def __call__(
        self,
        call: Callable[[], T],
        *,
        to_its_end: bool = False,
        beside: bool = False,
        begins_within: float | None = None,
    ) -> T:
        """What the call returns or raises. Raises NoThreadError where there is no thread, or after `close`.

        `to_its_end`: who is cancelled waits for a call that has begun, and is cancelled then. `beside` the others, it
        does not wait for its turn. One that `begins_within` so many seconds is before those that have time, and raises
        NotBegunError then.
        """
        errand = _Errand(call)
        if beside or self._closed:  # in the lane it would wait for those that are busy still
            self.run(errand.make)
        else:
            try:
                self._lane.run(errand.make, Turn.BEGINS if begins_within is None else Turn.GOES_ON)
            except RuntimeError as error:
                raise NoThreadError(str(error)) from error
        return await errand.answer(to_its_end, begins_within)

    def close(self) -> None:
        """End the threads, those that are busy when they are done, for which it does not wait. Idempotent."""
        self._closed = True
        self._cache.close(0.0)


class _Errand(Generic[T]):
    """One call, made once or never. In a copy of the caller's context, so that a trace goes on there."""

    def __init__(self, call: Callable[[], T]) -> None:
        self._loop = asyncio.get_running_loop()
        self._future: asyncio.Future[T] = self._loop.create_future()
        self._calls: list[Callable[[], T]] = [partial(copy_context().run, call)]

    def make(self) -> None:
        """On a thread: make the call, unless nobody waits for it any more."""
        with suppress(IndexError):
            call = self._calls.pop()  # atomic: who gets it decides what becomes of it
            try:
                told = partial(self._return, call())
            except BaseException as error:
                told = partial(self._raise, error)
            del call
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(told)

    def _return(self, result: T) -> None:
        if not self._future.cancelled():
            self._future.set_result(result)

    def _raise(self, error: BaseException) -> None:
        if not self._future.cancelled():
            self._future.set_exception(error)

    async def answer(self, to_its_end: bool, begins_within: float | None) -> T:
        try:
            await asyncio.wait([self._future], timeout=begins_within)
            if not self._future.done():
                if self._give_up():
                    raise NotBegunError
                await asyncio.wait([self._future])
        except asyncio.CancelledError:
            if not self._give_up() and to_its_end:
                while not self._future.done():
                    with suppress(asyncio.CancelledError):
                        await asyncio.wait([self._future])
            if not self._future.cancel():
                self._future.exception()  # is dropped, and not told of as if nobody had looked
            raise
        try:
            return self._future.result()
        finally:
            del self  # the error knows this frame

    def _give_up(self) -> bool:
        """Whether the call had not begun; then it never will."""
        try:
            self._calls.pop()
        except IndexError:
            return False
        return True
