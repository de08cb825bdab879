"""`Throttle`: how many bytes a slow link takes, and when."""

from __future__ import annotations

MOMENT = 0.02
"""Seconds whose bytes are saved up at most: a link that was idle has that much to give at once."""


class Throttle:
    """So many bytes a second, by whatever clock `now` is read from. Not thread-safe."""

    def __init__(self, bytes_per_second: float, now: float) -> None:
        self._rate = bytes_per_second
        self._most = max(1.0, bytes_per_second * MOMENT)
        self._credit = 0.0
        self._at = now

    def credit(self, now: float) -> int:
        """Bytes that it takes now."""
        self._credit = min(self._most, self._credit + (now - self._at) * self._rate)
        self._at = now
        return int(self._credit)

    def spend(self, size: int) -> None:
        """It has taken so many."""
        self._credit -= size

    def next(self, now: float) -> float:
        """When it takes enough to be worth while."""
        missing = self._most / 2 - self.credit(now)
        return now if missing <= 0 else now + missing / self._rate
