"""`NextDue`: when a worker's queue has its next message, by what the worker's claims and looks have seen.

Nobody announces that a message becomes visible: a delayed one, a retry, one whose worker died.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from math import inf

from pgflow_starter.clock import Clock, Timers
from pgflow_starter.core.task import Claimed
from pgflow_starter.worker.alarm import Alarm

VISIBLE_MARGIN = 0.01
"""Seconds after a message becomes visible that it is looked for."""


class NextDue:
    """Of one worker, which it has `poll` then. Thread-safe; does not wait."""

    def __init__(self, clock: Clock, timers: Timers, poll: Callable[[], object]) -> None:
        self._clock = clock
        self._poll = poll
        self._alarm = Alarm(clock, timers, self._rings)
        self._lock = threading.Lock()
        self._at = inf

    def claimed(self, claimed: Claimed, quantity: int) -> None:
        """A claim of so many has seen all that there is; but one that was full, which another follows."""
        if claimed.read < quantity:
            self._expect(claimed.visible_in, inf)

    def looked(self, visible_in: float | None) -> None:
        """A look has seen it, perhaps before the last claim did."""
        self._expect(visible_in, None)

    def _expect(self, visible_in: float | None, otherwise: float | None) -> None:
        at = inf if visible_in is None else self._clock.monotonic() + max(0.0, visible_in) + VISIBLE_MARGIN
        with self._lock:
            at = self._at = min(at, self._at if otherwise is None else otherwise)
        with suppress(RuntimeError):  # no thread for the timers: the polls at intervals find it
            self._alarm.set(at)

    def _rings(self) -> None:
        """It was set for a time that may be over, or that was put off since."""
        with self._lock:
            at, due = self._at, self._at <= self._clock.monotonic()
            if due:
                self._at = inf
        if due:
            self._poll()
        else:
            self._alarm.set(at)
