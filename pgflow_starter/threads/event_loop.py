"""`EventLoop`: the one asyncio event loop of a starter, on a thread of its own."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import Context
from functools import partial
from typing import Any, TypeVar

from pgflow_starter.clock import Clock, Timers
from pgflow_starter.core.said_once import SaidOnce
from pgflow_starter.threads.cache import AGAIN_INTERVAL, ThreadCache, call_logged
from pgflow_starter.threads.lane import Lane
from pgflow_starter.threads.own_thread import Died, OwnThread

T = TypeVar("T")

logger = logging.getLogger("pgflow_starter.threads")

THREAD_CALLS = 32
"""Calls of `asyncio.to_thread` at a time."""

LAST_WORDS = 0.25
"""Seconds that what runs on the loop gets when it is cancelled at the loop's end, and asynchronous generators then."""

CLOSES = 3
"""Times that what does not end all the same is closed: each of its `finally` may await once more."""

CLOSE_TIMEOUT = 3 * LAST_WORDS
"""Seconds that the loop's thread gets to end: it may be blocked."""


class EventLoop:
    """Makes calls on its thread, a daemon that starts with the first; there they may make tasks. Thread-safe.

    What hangs on it delays all others. Where the loop itself dies, all that ran on it is lost, those that `watch` are
    told, and the next one begins with the calls that wait.
    """

    def __init__(self, clock: Clock, timers: Timers, threads: ThreadCache) -> None:
        self._clock = clock
        self._timers = timers
        self._threads = threads
        self._thread = OwnThread("pgflow-event-loop", self._run, hangs="the event loop is blocked")
        self._calls = deque[Callable[[], object]]()
        self._context = Context()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lost: list[Callable[[], object]] = []
        self._closed = threading.Event()

    def watch(self, lost: Callable[[], object]) -> None:
        """Have it called, on the loop's thread, when all that runs there is lost."""
        self._lost.append(lost)

    def call(self, call: Callable[[], object]) -> None:
        """Make the call on the loop's thread, soon; after `close`, never. Does not wait.

        Raises RuntimeError when there is no thread to be had; the call is dropped then.
        """
        self._calls.append(call)
        loop = self._loop
        if loop is not None:
            with suppress(RuntimeError):  # closed meanwhile: the next one makes it
                loop.call_soon_threadsafe(self._make_calls, loop, context=self._context)
            return
        try:
            self._thread.start()
        except RuntimeError:
            with suppress(ValueError):
                self._calls.remove(call)
            raise

    def revive(self, died: Died) -> None:
        """As `Threaded.revive`; the calls that wait are kept."""
        self._thread.revive(died, needed=bool(self._calls))

    def close(self) -> None:
        """Cancel all that runs on the loop and end it; waits less than a second for its thread. Idempotent."""
        self._closed.set()
        loop = self._loop
        if loop is not None:
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(loop.stop)
        self._thread.close(CLOSE_TIMEOUT)

    def owns(self, thread: threading.Thread) -> bool:
        """Whether the thread is its own. Never waits."""
        return self._thread.is_it(thread)

    def _make_calls(self, loop: asyncio.AbstractEventLoop) -> None:
        while self._calls and self._loop is loop:
            call_logged(self._calls.popleft(), logger)

    def _run(self) -> None:
        if (loop := self._new_loop()) is None:
            return
        try:
            loop.call_soon(self._make_calls, loop, context=self._context)
            self._loop = loop
            while not self._closed.is_set():
                _go_on(loop)
        except BaseException:
            self._loop = None
            for lost in self._lost:
                call_logged(lost, logger)
            raise
        finally:
            self._loop = None
            call_logged(partial(end, loop), logger, "ending the event loop")

    def _new_loop(self) -> asyncio.AbstractEventLoop | None:
        """As soon as there can be one; None when closed before."""
        said = SaidOnce()
        while not self._closed.is_set():
            try:
                from pgflow_starter.threads.executor import CacheExecutor
                from pgflow_starter.threads.loop_watch import LoopWatch, WatchedLoop

                loop = WatchedLoop(LoopWatch(self._clock, self._timers, self._threads))
                loop.set_default_executor(CacheExecutor(Lane(self._threads, THREAD_CALLS)))
                return loop
            except OSError as error:  # no more files may be open
                if said.note(str(error)):
                    logger.error("there is no event loop for async handlers yet: %s", error)
                self._closed.wait(AGAIN_INTERVAL)
        return None


def _go_on(loop: asyncio.AbstractEventLoop) -> None:
    """Run the loop until somebody stops it."""
    try:
        loop.run_forever()
    except (SystemExit, KeyboardInterrupt) as error:  # of all that a task raises asyncio lets these two through
        logger.error("a task on the event loop raised %s, and the loop goes on", type(error).__name__)


def end(loop: asyncio.AbstractEventLoop) -> None:
    """Cancel what is left, see it end, and close the loop; what does not end in time is closed where it stands."""
    loop.set_task_factory(None)
    try:
        finish(loop, _cancel_all())
        finish(loop, asyncio.wait_for(loop.shutdown_asyncgens(), LAST_WORDS))
    finally:
        loop.set_exception_handler(_after_the_end)
        _close_all(loop)
        loop.close()


def _close_all(loop: asyncio.AbstractEventLoop) -> None:
    # As if it ran: who swallows everything and awaits again is left there. Without it, that would raise at once, and
    # be swallowed, for ever.
    asyncio._set_running_loop(loop)  # noqa: SLF001 - made for whoever is an event loop
    try:
        for task in asyncio.all_tasks(loop):
            if not _close(task.get_coro()):
                _keep_for_ever(task.get_coro())
    finally:
        asyncio._set_running_loop(None)  # noqa: SLF001


def _close(coroutine: Any) -> bool:
    """Whether it has ended by that."""
    for _ in range(CLOSES):
        with suppress(BaseException):
            coroutine.close()
            return True
    return False


def _keep_for_ever(coroutine: object) -> None:
    """So that nobody ever closes it again: Python does when the last reference goes, on whatever thread that is."""
    with suppress(ImportError, AttributeError):  # a Python without it, or no CPython
        import ctypes

        ctypes.pythonapi.Py_IncRef(ctypes.py_object(coroutine))


async def _cancel_all() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=LAST_WORDS)


def finish(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, T]) -> T:
    """Run it to its end on the loop, on this thread, whoever stops it: what it returns or raises."""
    task = asyncio.Task(coroutine, loop=loop)  # not by a task factory that somebody has set
    task.add_done_callback(lambda _: loop.stop())
    while not task.done():
        with suppress(SystemExit):  # another task's, or its own, which it keeps
            loop.run_forever()
    return task.result()


def _after_the_end(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What asyncio has to say of what was left; that it was left, the workers have said."""
    task = context.get("task")
    if task is None or task.done():
        loop.default_exception_handler(context)
