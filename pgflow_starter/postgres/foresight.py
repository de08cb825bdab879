"""`Foresight`: what the database holds of many flows, read in one statement for all who are about to ask."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from pgflow_starter.ports import Clock

Value = TypeVar("Value")

MAX_AGE = 1.0
"""Seconds for which what was read counts: others may change it, as they may right after it was read."""

MOST = 64
"""Flows in one statement: those behind would be too old by their turn."""


@dataclass(frozen=True, slots=True)
class Known(Generic[Value]):
    """What was read, None for what is not there; and when, on the monotonic clock."""

    value: Value | None
    at: float


class Foresight(Generic[Value]):
    """By slug. Each is given once: who comes again has a reason to doubt it. Thread-safe; never waits."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._expected: dict[str, None] = {}
        self._known: dict[str, Known[Value]] = {}

    def expect(self, slug: str) -> None:
        """Somebody is about to ask for it: whoever reads next may read it, too."""
        with self._lock:
            self._expected[slug] = None

    def take(self, slug: str) -> Known[Value] | None:
        """What is known of it; None when that is nothing, or too old."""
        with self._lock:
            self._expected.pop(slug, None)
            known = self._known.pop(slug, None)
        fresh = known is not None and self._clock.monotonic() - known.at < MAX_AGE
        return known if fresh else None

    def to_read(self) -> list[str]:
        """Those that are expected, for the caller to read; nobody else will be given them."""
        with self._lock:
            slugs = list(self._expected)[:MOST]
            for slug in slugs:
                del self._expected[slug]
        return slugs

    def put(self, slugs: list[str], values: Mapping[str, Value], at: float) -> None:
        """These were read, not before `at`."""
        with self._lock:
            for slug in slugs:
                self._known[slug] = Known(values.get(slug), at)

    def forget(self) -> None:
        """What was read may not be so any more."""
        with self._lock:
            self._known.clear()
