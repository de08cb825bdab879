"""The one place in the tests that polls: for what no event, future or join tells of."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

INTERVAL = 0.01


def eventually(fn: Callable[[], T], timeout: float = 30.0, what: str = "the condition") -> T:
    """Call `fn` until what it returns is true, and return that. What it raises goes through.

    Raises AssertionError with the last value after `timeout` seconds; `fn` is called once more after that.
    """
    never = threading.Event()
    deadline = time.monotonic() + timeout
    while True:
        late = time.monotonic() >= deadline
        if value := fn():
            return value
        if late:
            raise AssertionError(f"{what} did not come true within {timeout:g} s; the last value was {value!r}")
        never.wait(INTERVAL)
