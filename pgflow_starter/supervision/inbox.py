"""What an actor is sent and what it answers, without a lock: a mailbox that can be closed, and a future.

A signal handler may send, ask and stop on top of whatever its thread was doing, and may raise out of it: it leaves no
lock held that an actor would then wait for.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
from collections.abc import Callable
from math import inf
from queue import Empty, Full, SimpleQueue
from typing import Any

import pykka
from pykka._envelope import Envelope
from pykka.messages import _ActorStop

from pgflow_starter.clock import SLICE, SystemClock
from pgflow_starter.errors import ForkedError

_clock = SystemClock()


class Answer(pykka.Future[Any]):
    """A future whose setter never waits for a getter. The first to set it counts, others get `queue.Full`."""

    def __init__(self) -> None:
        super().__init__()
        self._setters = itertools.count()
        self._result: tuple[Any, BaseException | None] | None = None
        self._arrived: SimpleQueue[None] = SimpleQueue()

    def get(self, *, timeout: float | None = None) -> Any:
        """Wait up to `timeout` seconds. Raises what was set as an exception, pykka.Timeout."""
        if self._get_hook is not None:
            return super().get(timeout=timeout)
        deadline = inf if timeout is None else _clock.monotonic() + timeout
        # In slices: a signal's exception may come between the two calls, and the next getter never hears of it.
        while self._result is None:
            left = deadline - _clock.monotonic()
            with contextlib.suppress(Empty):
                self._arrived.get(timeout=min(max(0.0, left), SLICE))
                self._arrived.put(None)  # for the next getter
            if self._result is None and left <= 0:
                msg = f"{timeout} seconds"
                raise pykka.Timeout(msg)
        value, error = self._result
        if error is not None:
            raise error
        return value

    def set(self, value: Any = None) -> None:
        """Set the value."""
        self._set((value, None))

    def set_exception(self, exc_info: Any = None) -> None:
        """Set what `get` raises: a triple like `sys.exc_info()`, which is taken where there is none."""
        kind, error, trace = exc_info or sys.exc_info()
        assert kind is not None
        self._set((None, (kind() if error is None else error).with_traceback(trace)))

    def _set(self, result: tuple[Any, BaseException | None]) -> None:
        if self._get_hook is not None or next(self._setters):
            raise Full
        self._result = result
        self._arrived.put(None)


class Inbox:
    """A mailbox that can be closed: what comes after is answered with ActorDeadError instead of waiting for ever.

    `SimpleQueue.put` is reentrant, and a put that raced with `close` is found either by it or by the putter's own look
    at `_closed`. After each put `arrived` is called, where there is one. In a forked child, where no thread takes any,
    an ask is answered with ForkedError, and other messages are lost.
    """

    def __init__(self) -> None:
        self._queue: SimpleQueue[Envelope[Any]] = SimpleQueue()
        self._pid = os.getpid()
        self._closed = False
        self._ended = False
        self.arrived: Callable[[], object] | None = None

    def put(self, envelope: Envelope[Any], /) -> None:
        """Add a message; never blocks."""
        if os.getpid() != self._pid:
            self._refuse(envelope)
            return
        self._queue.put(envelope)
        if self._closed:
            # This one only: a signal handler must not answer what the thread below it is about to wait for.
            self._answer(envelope)
        if self.arrived is not None:
            self.arrived()

    def take(self) -> Envelope[Any] | None:
        """The next message, None when there is none."""
        try:
            return self._queue.get_nowait()
        except Empty:
            return None

    def get(self) -> Envelope[Any]:
        """Wait for the next message."""
        return self._queue.get()

    def empty(self) -> bool:
        """True when nothing waits."""
        return self._queue.empty()

    def close(self, *, ended: bool) -> None:
        """Answer what waits and what comes from now on; an ask to stop only once the actor has `ended`."""
        self._closed = True
        self._ended = self._ended or ended
        stops = []
        with contextlib.suppress(Empty):
            while True:
                envelope = self._queue.get_nowait()
                if not self._answer(envelope):
                    stops.append(envelope)
        for envelope in stops:
            self.put(envelope)

    def _refuse(self, envelope: Envelope[Any]) -> None:
        if isinstance(envelope.message, _ActorStop):
            reply(envelope.reply_to, None)  # the parent's is left alone
        else:
            msg = f"the actor runs in process {self._pid}, and threads do not survive a fork: start another here"
            fail(envelope.reply_to, ForkedError(msg))

    def _answer(self, envelope: Envelope[Any]) -> bool:
        """Answer what will not be executed; False for an ask to stop, while the end is still to come."""
        if not isinstance(envelope.message, _ActorStop):
            fail(envelope.reply_to, pykka.ActorDeadError("the actor ended before it took the message"))
        elif self._ended:
            reply(envelope.reply_to, None)
        else:
            return False
        return True


def reply(asker: pykka.Future[Any] | None, value: Any) -> None:
    """Answer an ask, if it was one and has no answer yet."""
    if asker is not None:
        with contextlib.suppress(Full):
            asker.set(value)


def fail(asker: pykka.Future[Any] | None, error: BaseException) -> None:
    """Answer an ask with an error, if it was one and has no answer yet."""
    if asker is not None:
        with contextlib.suppress(Full):
            asker.set_exception((type(error), error, error.__traceback__))
