"""`Plan`: how much is measured."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Plan:
    """How often, and of what how much.

    `outages` are repetitions, too; `long` ones take 60 and 45 seconds. `cold` and `warm` are numbers of modules,
    `threads` those that the floor of starting is tried with. `samples` are single calls.
    """

    repetitions: int
    outages: int
    cold: tuple[int, ...]
    warm: tuple[int, ...]
    threads: tuple[int, ...]
    jobs: int
    concurrencies: tuple[int, ...]
    samples: int
    idle_seconds: float
    long: bool


SHORT = Plan(3, 1, (100,), (100, 1000), (2, 4), 2_000, (5, 20), 40, 3.0, False)
"""What `make bench` does, in five minutes."""

FULL = Plan(5, 5, (1, 10, 100, 1000), (1, 10, 100, 1000), (1, 2, 4, 10), 5_000, (1, 2, 5, 10, 20, 50), 300, 10.0, True)
"""What the targets are judged by."""
