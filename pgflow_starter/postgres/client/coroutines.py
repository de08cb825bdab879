"""`Coroutines`: what a client does for those that await it: calls on threads; waiting for runs, which takes none."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from math import inf
from typing import TypeVar

from pgflow_starter.clock import Clock
from pgflow_starter.errors import PgflowError
from pgflow_starter.postgres.client.calls import Calls
from pgflow_starter.postgres.client.endings import SHORTEST_READ, Endings, unread
from pgflow_starter.postgres.client.run import Run, RunFacts, RunReader
from pgflow_starter.postgres.client.waiter import LAST_PAUSE, Wait, going_on
from pgflow_starter.postgres.client.waits import Waits
from pgflow_starter.postgres.connections.errors import no_thread
from pgflow_starter.threads.awaited import NotBegunError
from pgflow_starter.threads.off_main import NoThreadError

T = TypeVar("T")


class Coroutines:
    """Of one client, for any number of event loops. Thread-safe."""

    def __init__(self, calls: Calls, waits: Waits, endings: Endings, clock: Clock) -> None:
        self._calls = calls
        self._waits = waits
        self._endings = endings
        self._clock = clock

    async def made(
        self,
        call: Callable[[], T],
        *,
        to_its_end: bool = False,
        beside: bool = False,
        begins_within: float | None = None,
    ) -> T:
        """What the call returns or raises, as `Awaited` makes it. Raises PgflowError where there is no thread."""
        self._calls.database.check_process()
        try:
            return await self._calls.awaited(call, to_its_end=to_its_end, beside=beside, begins_within=begins_within)
        except NoThreadError as error:
            raise self._no_thread(error) from error

    async def wait(self, run: RunFacts, timeout: float | None, client: RunReader) -> RunFacts:
        """As `Run.wait`; the same run where it is finished already."""
        self._calls.database.check_process()
        deadline = inf if timeout is None else self._clock.monotonic() + timeout
        while not run.finished:
            status = await self._ended(run, deadline, timeout)
            run = await self._whole(run, status, deadline, client)
        return run

    async def _ended(self, run: RunFacts, deadline: float, timeout: float | None) -> str:
        """The status that it ended with."""
        told = asyncio.get_running_loop().create_future()
        wait = self._watch(run, told)
        try:
            await _until(told, deadline - self._clock.monotonic())
            wait.over = True  # said first
            if not wait.looked:  # one look at least, as who waits by a thread has
                await _until(told, SHORTEST_READ)
        finally:
            self._waits.leave(wait)
        error = wait.error or (None if wait.finished else self._waits.closed)
        if error is not None:
            raise error
        if not wait.finished:
            raise going_on(run, wait.status, timeout)
        return wait.status

    def _watch(self, run: RunFacts, told: asyncio.Future[None]) -> Wait:
        gone = told.get_loop().is_closed  # with its tasks as they were
        try:
            return self._waits.watch(run, _setting(told), gone, self._endings.look, self._calls.awaited.run)
        except NoThreadError as error:
            raise self._no_thread(error) from error

    async def _whole(self, run: RunFacts, status: str, deadline: float, client: RunReader) -> Run:
        """The run as it is now; a database that is away is waited out without a thread."""
        while True:
            left = deadline - self._clock.monotonic()
            within = None if left == inf else max(SHORTEST_READ, left)
            try:
                whole = await self.made(partial(self._endings.read, run, left, client), begins_within=within)
            except NotBegunError:  # other calls have all the threads
                raise unread(run, status) from None
            if whole is not None:
                return whole
            if left <= 0:
                raise unread(run, status)
            await asyncio.sleep(min(left, LAST_PAUSE))

    def _no_thread(self, error: NoThreadError) -> PgflowError:
        """The client's end, where that is why there is none."""
        return self._calls.end() if self._calls.closed else self._calls.callers_error(no_thread(error))


def _setting(future: asyncio.Future[None]) -> Callable[[], None]:
    """What has its loop set the future, once, from any thread."""
    loop = future.get_loop()

    def set_once() -> None:
        if not future.done():
            future.set_result(None)

    def called() -> None:
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(set_once)

    return called


async def _until(future: asyncio.Future[None], seconds: float) -> None:
    await asyncio.wait([future], timeout=None if seconds == inf else max(0.0, seconds))
