"""The real clock and the real randomness: the only file that reads them."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol

SLICE = 0.25
"""Seconds of one wait of the main thread: a signal that comes just before one in the kernel is seen only after it."""

_LONGEST = 3600.0
"""Seconds: on some platforms the longest wait for a lock is bounded."""


class SystemClock:
    """The system's own `Clock`."""

    def monotonic(self) -> float:
        return time.monotonic()

    def now(self) -> datetime:
        return datetime.now(UTC)


def one_wait(seconds: float | None) -> float:
    """So much of a wait (None: for ever) this thread may spend in the kernel at one go; then it has to look again.

    Signals are handled on the main thread, and may raise there: that one waits in slices.
    """
    most = SLICE if threading.get_ident() == threading.main_thread().ident else _LONGEST
    return most if seconds is None else min(max(seconds, 0.0), most)


def uniform_unit() -> float:
    """A number drawn uniformly from [0, 1). Thread-safe."""
    return random.random()


class Clock(Protocol):
    """Time. Thread-safe."""

    def monotonic(self) -> float:
        """Seconds on a clock that never goes back."""

    def now(self) -> datetime:
        """The wall clock, in UTC."""


class Timer(Protocol):
    """One timed call."""

    def cancel(self) -> None:
        """Forget the call; does nothing once it was made."""


class Timers(Protocol):
    """Timed calls, all made on one thread: they must return at once and only send messages. Thread-safe."""

    def after(self, delay: float, call: Callable[[], object]) -> Timer:
        """Make the call in `delay` seconds."""
