"""The real clock and the real randomness: the only file that reads them."""

from __future__ import annotations

import random
import time
from datetime import UTC, datetime


class SystemClock:
    """The system's clocks. Thread-safe."""

    def monotonic(self) -> float:
        """Seconds on a clock that never goes back."""
        return time.monotonic()

    def now(self) -> datetime:
        """The wall clock, in UTC."""
        return datetime.now(UTC)


def uniform_unit() -> float:
    """A number drawn uniformly from [0, 1). Thread-safe."""
    return random.random()
