"""`Figure`: something that was measured, beside what it may be at most."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass
from typing import Any

HEADER = f"{'recovering':<62} {'median':>10} {'spread':>20} {'at most':>9}"


@dataclass(frozen=True, slots=True)
class Figure:
    """Repetitions of one measurement, in the unit of its target."""

    name: str
    values: list[float]
    target: float
    unit: str

    @property
    def median(self) -> float:
        """Of the repetitions."""
        return statistics.median(self.values)

    @property
    def held(self) -> bool:
        """Whether the median is at most the target."""
        return self.median <= self.target

    def line(self) -> str:
        """The row of the table."""
        spread = f"{min(self.values):.3g} to {max(self.values):.3g}"
        return (
            f"{self.name:<62} {self.median:>7.3g} {self.unit:<2} {spread:>20} {self.target:>6g} {self.unit:<2}"
            f"{'' if self.held else '  MISSED'}"
        )

    def to_dict(self) -> dict[str, Any]:
        """As JSON-ready data."""
        return {**asdict(self), "median": self.median, "held": self.held}


def p99(values: list[float]) -> float:
    """The 99th percentile."""
    return statistics.quantiles(values, n=100)[98]


def most_in_a_second(times: list[float]) -> int:
    """The largest number of these moments that lie within one second."""
    ordered = sorted(times)
    most = first = 0
    for last, at in enumerate(ordered):
        while at - ordered[first] >= 1.0:
            first += 1
        most = max(most, last - first + 1)
    return most
