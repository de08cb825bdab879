"""SIGTERM and SIGINT: the handler only says that one came, and waiting ends; nothing is thrown into what is under way.

What may take long is done aside, on a thread of its own, while the main thread waits in slices for its end or for a
signal. When one comes the wait raises Interrupted, in an orderly place, and the thread is left to itself.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from math import inf
from queue import Empty, SimpleQueue
from types import FrameType
from typing import TypeVar

import click

from pgflow_starter.clock import SystemClock, one_wait

T = TypeVar("T")

_ENDING = (signal.SIGTERM, signal.SIGINT)


class Interrupted(click.ClickException):
    """A signal came before it was done; the exit code is the one of shells."""

    def __init__(self, message: str = "interrupted", number: int = signal.SIGINT) -> None:
        super().__init__(message)
        self.exit_code = 128 + number  # type: ignore[misc] # click itself asks the instance


class Signals:
    """The requests to end, as the main thread waits for them. Made by `handled`."""

    def __init__(self) -> None:
        self._clock = SystemClock()
        # A SimpleQueue: an Event's lock may be held by the very frame that the handler interrupts.
        self._stirs: SimpleQueue[None] = SimpleQueue()
        self._at_once: Callable[[], object] | None = None
        self.number = 0
        """The first that came, 0 while none has."""
        self.again = False
        """Whether a SIGINT came after it."""

    def when_again(self, at_once: Callable[[], object]) -> None:
        """Have each SIGINT after the first signal call this, on top of whatever the main thread does.

        Without it a second signal has its usual effect: it ends the process on the spot.
        """
        self._at_once = at_once

    def wait(self, timeout: float) -> bool:
        """Whether a signal has come, within `timeout` seconds at the latest."""
        self._rest(lambda: False, timeout)
        return bool(self.number)

    def aside(self, work: Callable[[], T], timeout: float = inf, name: str = "pgflow-aside") -> T:
        """What `work` returns or raises, which is done on a thread of its own.

        Raises Interrupted when a signal comes first, TimeoutError after so many seconds: then nobody waits for it.
        """
        answer: Future[T] = Future()
        if not self.number:
            threading.Thread(target=self._do, args=(work, answer), name=name, daemon=True).start()
            self._rest(answer.done, timeout)
        if answer.done():
            return answer.result()
        raise Interrupted(number=self.number) if self.number else TimeoutError

    def _do(self, work: Callable[[], T], answer: Future[T]) -> None:
        try:
            answer.set_result(work())
        except BaseException as error:
            answer.set_exception(error)
        self._stirs.put(None)

    def _rest(self, enough: Callable[[], bool], timeout: float) -> None:
        """Until it is enough, a signal has come or the time is over."""
        deadline = self._clock.monotonic() + timeout
        while not self.number and not enough():
            left = deadline - self._clock.monotonic()
            if left <= 0:
                break
            try:
                self._stirs.get(timeout=one_wait(left))
            except Empty:
                continue

    def receive(self, number: int, _: FrameType | None = None) -> None:
        """The handler."""
        if not self.number:
            self.number = number
            self._stirs.put(None)
        elif self._at_once is None:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        elif number == signal.SIGINT:
            self.again = True
            self._at_once()


@contextmanager
def handled() -> Iterator[Signals]:
    """Handle SIGTERM and SIGINT within the block, inherited as ignored or not. For the main thread.

    SIGUSR1 prints what every thread does.
    """
    signals = Signals()
    before = {number: signal.signal(number, signals.receive) for number in _ENDING}
    if hasattr(signal, "SIGUSR1") and sys.__stderr__ is not None:
        faulthandler.register(signal.SIGUSR1, file=sys.__stderr__, all_threads=True)
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
