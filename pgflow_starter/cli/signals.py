"""Ending on SIGTERM and SIGINT."""

from __future__ import annotations

import faulthandler
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from types import FrameType
from typing import NoReturn

_ENDING = (signal.SIGTERM, signal.SIGINT)


class Signals:
    """The request to end, as the main thread waits for it. Made by `handled`."""

    def __init__(self) -> None:
        # A SimpleQueue: an Event's lock may be held by the very frame that the handler interrupts.
        self._came: SimpleQueue[int] = SimpleQueue()
        self.again = False
        """Whether a SIGINT came after the one that `wait` told of."""
        self._at_once: Callable[[], object] = lambda: None

    def defer(self, at_once: Callable[[], object]) -> None:
        """From now on a signal is for `wait` to tell; before, it ends the process with exit code 0.

        `at_once` is called, on top of whatever the main thread does, by each SIGINT after the one that was told.
        """
        self._at_once = at_once
        for number in _ENDING:
            signal.signal(number, self._receive)

    def wait(self, timeout: float) -> bool:
        """Whether a signal came within `timeout` seconds."""
        try:
            self._came.get(timeout=timeout)
        except Empty:
            return False
        signal.signal(signal.SIGINT, self._receive_again)
        return True

    def _receive(self, number: int, _: FrameType | None) -> None:
        self._came.put(number)

    def _receive_again(self, _: int, __: FrameType | None) -> None:
        self.again = True
        self._at_once()


@contextmanager
def handled() -> Iterator[Signals]:
    """Handle SIGTERM and SIGINT within the block; SIGUSR1 prints what every thread does. For the main thread."""
    before = {number: signal.signal(number, _leave) for number in _ENDING}
    if hasattr(signal, "SIGUSR1") and sys.__stderr__ is not None:
        faulthandler.register(signal.SIGUSR1, file=sys.__stderr__, all_threads=True)
    try:
        yield Signals()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave(number: int, _: FrameType | None) -> NoReturn:
    sys.exit(0)
