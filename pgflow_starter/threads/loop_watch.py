"""`LoopWatch`: notices that something keeps an event loop from going on, and says where it is stuck, once each time."""

from __future__ import annotations

import asyncio
import logging
import selectors
import sys
import threading
from contextvars import ContextVar
from functools import partial
from math import inf
from traceback import FrameSummary, StackSummary
from types import FrameType
from typing import Any

from pgflow_starter.clock import Clock, Timers
from pgflow_starter.threads.cache import ThreadCache, run_patiently
from pgflow_starter.threads.loop_end import end

logger = logging.getLogger("pgflow_starter.threads")

LONGEST = 1.0
"""Seconds after which a loop that has not gone on counts as blocked."""

SHOWN = 10
"""Frames that are shown of where it is stuck, the innermost."""

BLOCKED = (
    "the event loop is blocked by %s, for %.1f s now, and no other async handler goes on meanwhile: await what takes"
    " its time, or call it by asyncio.to_thread\n%s"
)

on_behalf_of: ContextVar[str] = ContextVar("pgflow_on_behalf_of")
"""What a task is called that is made in this context and has no name of its own."""


class WatchedLoop(asyncio.SelectorEventLoop):
    """An event loop that is watched. Made on its thread."""

    def __init__(self, watch: LoopWatch) -> None:
        super().__init__(watch)
        watch.loop = self

    def create_task(self, coro: Any, **kwargs: Any) -> asyncio.Task[Any]:
        """As the library's."""
        task = super().create_task(coro, **kwargs)
        if kwargs.get("name") is None and (name := on_behalf_of.get(None)):
            task.set_name(name)
        return task

    def end(self) -> None:
        """As `loop_end.end`."""
        end(self)


class LoopWatch(selectors.DefaultSelector):
    """The selector of one event loop, which asks it for what comes next each time it goes round.

    So it knows since when the loop has not asked, and costs next to nothing; where nothing runs, nobody looks.
    """

    def __init__(self, clock: Clock, timers: Timers, threads: ThreadCache) -> None:
        super().__init__()
        self.loop: asyncio.AbstractEventLoop | None = None
        self._now = clock.monotonic
        self._timers = timers
        self._threads = threads
        self._thread = threading.get_ident()
        self._busy_since = inf
        self._watched = False

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """As the library's."""
        self._busy_since = inf
        try:
            return super().select(timeout)
        finally:
            self._busy_since = self._now()  # before the look at who watches: one of the two sees the other
            if not self._watched:
                self._look_at(self._busy_since + LONGEST)

    def close(self) -> None:
        """As the library's."""
        self._busy_since = inf
        super().close()

    def _look_at(self, at: float) -> None:
        self._watched = True
        try:
            self._timers.after(at - self._now(), self._look)
        except RuntimeError:  # no thread for the timers; the next round tries again
            self._watched = False

    def _look(self) -> None:
        """On the timers' thread."""
        self._watched = False
        since = self._busy_since
        if since + LONGEST <= self._now():  # its next round is watched again
            run_patiently(self._threads, self._timers, partial(self._say, since))
        elif since < inf:
            self._look_at(since + LONGEST)

    def _say(self, since: float) -> None:
        where, who = _frames(self._thread), self._who()
        seconds = self._now() - since
        if where and self._busy_since == since:  # else these are another call's
            logger.warning(BLOCKED, who, seconds, where)

    def _who(self) -> str:
        task = None if self.loop is None else asyncio.current_task(self.loop)
        return "a callback" if task is None else task.get_name()


def _frames(thread: int) -> str:
    """The innermost frames of a thread, down from those of asyncio and but for our own."""
    frame: FrameType | None = sys._current_frames().get(thread)  # noqa: SLF001 - documented, and the only way
    found: list[FrameSummary] = []
    while frame is not None and (module := str(frame.f_globals.get("__name__"))) != "asyncio.events":
        code = frame.f_code
        if not module.startswith("pgflow_starter."):
            found.insert(0, FrameSummary(code.co_filename, frame.f_lineno, code.co_name, lookup_line=False, line=""))
        frame = frame.f_back
    return "".join(StackSummary.from_list(found[-SHOWN:]).format()).rstrip()
