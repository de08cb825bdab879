"""`Foresight`: what was seen of many flows in one statement, kept for a moment for whoever goes on with one of them."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Generic, NamedTuple, TypeVar

from pgflow_starter.clock import Clock

Value = TypeVar("Value")

MAX_AGE = 1.0
"""Seconds for which what was read counts: others may change it, as they may right after it was read."""


class Known(NamedTuple, Generic[Value]):
    """What was read, None for what is not there; and when, on the monotonic clock."""

    value: Value | None
    at: float


class Foresight(Generic[Value]):
    """By slug. Each is given once: who comes again has a reason to doubt it. Thread-safe; never waits."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[str, Known[Value]] = {}

    def take(self, slug: str) -> Known[Value] | None:
        """What is known of it; None when that is nothing, or too old."""
        with self._lock:
            known = self._known.pop(slug, None)
        fresh = known is not None and self._clock.monotonic() - known.at < MAX_AGE
        return known if fresh else None

    def take_if(self, slug: str, value: Value) -> bool:
        """Whether it is known to be that; anything else is left there."""
        with self._lock:
            known = self._known.get(slug)
            if known is None or known.value != value or self._clock.monotonic() - known.at >= MAX_AGE:
                return False
            del self._known[slug]
        return True

    def put(self, slugs: Sequence[str], values: Mapping[str, Value], at: float) -> None:
        """These were read, not before `at`."""
        with self._lock:
            for slug in slugs:
                self._known[slug] = Known(values.get(slug), at)

    def forget(self) -> None:
        """What was read may not be so any more."""
        with self._lock:
            self._known.clear()
