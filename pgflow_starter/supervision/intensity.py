"""Restart intensity: how often a supervisor restarts before it gives up."""

from __future__ import annotations

from collections import deque


class RestartWindow:
    """Counts the restarts of one supervisor in a sliding window of `max_seconds` (monotonic, given by the caller).

    As in OTP: the restart that makes more than `max_restarts` within the window is one too many. Not thread-safe:
    a supervisor owns it.
    """

    def __init__(self, max_restarts: int, max_seconds: float) -> None:
        self.max_restarts = max_restarts
        self.max_seconds = max_seconds
        self._at: deque[float] = deque()

    def admit(self, now: float) -> bool:
        """Count a restart at `now`; False when that is one too many."""
        self._at.append(now)
        while self._at and now - self._at[0] > self.max_seconds:
            self._at.popleft()
        return len(self._at) <= self.max_restarts
