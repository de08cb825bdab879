"""How long to wait before the next attempt, as a pure function."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pgflow_starter.core.rules import is_number


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential backoff with uniform jitter; all values in seconds, `jitter` a fraction.

    The delay of retry n is drawn uniformly from `base * 2**(n - 1) * (1 ± jitter)`, where the exponential term is
    capped at `maximum` first and the interval is clipped to [0, maximum] before the draw, so that delays at the cap
    stay spread rather than pile up on its end. Raises ValueError naming every bad value.
    """

    base: float = 1.0
    maximum: float = 30.0
    jitter: float = 0.2

    def __post_init__(self) -> None:
        problems = [
            f"Backoff: {name} must be a number {bound}, got {value!r}"
            for name, value, bound, low, high in (
                ("base", self.base, "above 0", 0.0, math.inf),
                ("maximum", self.maximum, "above 0", 0.0, math.inf),
                ("jitter", self.jitter, "of at least 0", 0.0, math.inf),
            )
            if not is_number(value) or not low <= value <= high or (value == 0 and name != "jitter")
        ]
        if problems:
            raise ValueError("; ".join(problems))

    def delay(self, attempt: int, unit: float) -> float:
        """Seconds before retry `attempt` (from 1, however large), for a `unit` drawn from [0, 1)."""
        if attempt < 1:
            raise ValueError(f"attempt counts from 1, got {attempt!r}")
        try:
            term = min(math.ldexp(self.base, attempt - 1), self.maximum)
        except OverflowError:
            term = self.maximum
        low = max(term * (1 - self.jitter), 0.0)
        high = min(term * (1 + self.jitter), self.maximum)
        return low + (high - low) * unit
