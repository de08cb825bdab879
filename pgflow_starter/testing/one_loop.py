"""`OneLoop`: the event loop on which the async handlers of one `run_flow` run, one after the other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import Any, TypeVar

from pgflow_starter.threads.loop_end import end, finish

T = TypeVar("T")


class OneLoop:
    """Made with its first coroutine."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run it on this thread, or on another one where an event loop runs on this; what it returns or raises."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
        return _where_no_loop_runs(partial(finish, self._loop, coroutine))

    def close(self) -> None:
        """Cancel what the handlers have left behind."""
        if self._loop is not None:
            _where_no_loop_runs(partial(end, self._loop))


def _where_no_loop_runs(call: Callable[[], T]) -> T:
    if not _loop_runs_here():
        return call()
    with ThreadPoolExecutor(1) as another:
        return another.submit(copy_context().run, call).result()


def _loop_runs_here() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
