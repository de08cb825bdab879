"""`Plan`: how much is measured."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Plan:
    """Numbers of repetitions, modules and jobs; `long` outages take their 60 and 45 seconds."""

    repetitions: int
    cold: tuple[int, ...]
    warm: tuple[int, ...]
    jobs: int
    concurrencies: tuple[int, ...]
    idle_seconds: float
    long: bool


SHORT = Plan(3, (1, 10, 100), (1, 10, 100, 1000), 2_000, (1, 10), 5.0, False)
"""What `make bench` does: some five minutes."""

FULL = Plan(5, (1, 10, 100, 1000), (1, 10, 100, 1000), 5_000, (1, 2, 5, 10, 20, 50), 10.0, True)
"""What the targets are judged by."""
