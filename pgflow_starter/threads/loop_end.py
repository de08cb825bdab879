"""How an event loop ends, whatever runs on it and whoever stops it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")

LAST_WORDS = 0.25
"""Seconds that what runs on the loop gets when it is cancelled at the loop's end, and asynchronous generators then."""

CLOSES = 3
"""Times that what does not end all the same is closed: each of its `finally` may await once more."""


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
