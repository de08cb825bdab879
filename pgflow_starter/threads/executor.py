"""`CacheExecutor`: what `asyncio.to_thread` runs on, made of the threads of a cache."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from pgflow_starter.threads.lane import Lane

T = TypeVar("T")


class CacheExecutor(ThreadPoolExecutor):
    """As many calls at a time as the lane is wide. Thread-safe.

    The library's own threads are joined at the interpreter's exit, however long a call takes: these are left behind.
    It is one of that kind because an event loop takes no other, and starts no thread itself.
    """

    def __init__(self, lane: Lane) -> None:
        super().__init__(max_workers=1)
        self._lane = lane

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """As the library's. Raises RuntimeError when there is no thread to be had."""
        future: Future[T] = Future()
        self._lane.run(partial(_make, future, partial(fn, *args, **kwargs)))
        return future


def _make(future: Future[T], call: Callable[[], T]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = call()
    except BaseException as error:
        future.set_exception(error)
    else:
        future.set_result(result)
