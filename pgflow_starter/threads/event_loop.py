"""`EventLoop`: the one asyncio event loop of a starter, on a thread of its own."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context
from typing import TYPE_CHECKING

from pgflow_starter.clock import Clock, Timers
from pgflow_starter.core.said_once import SaidOnce
from pgflow_starter.threads.cache import AGAIN_INTERVAL, ThreadCache, call_logged
from pgflow_starter.threads.lane import Lane
from pgflow_starter.threads.own_thread import Died, OwnThread

if TYPE_CHECKING:  # loaded with the first call
    from pgflow_starter.threads.loop_watch import WatchedLoop

logger = logging.getLogger("pgflow_starter.threads")

THREAD_CALLS = 32
"""Calls of `asyncio.to_thread` at a time."""

CLOSE_TIMEOUT = 0.75
"""Seconds that the loop's thread gets to end, three times `loop_end.LAST_WORDS`: it may be blocked."""


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
            call_logged(loop.end, logger, "ending the event loop")

    def _new_loop(self) -> WatchedLoop | None:
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
