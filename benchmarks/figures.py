"""`Figure`: something that was measured, beside what it has to be."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass
from typing import Any


def header(table: str) -> str:
    """The first line of a table."""
    return f"{table:<70} {'median':>10} {'spread':>20} {'target':>12}"


@dataclass(frozen=True, slots=True)
class Figure:
    """Repetitions of one measurement, in the unit of its target: at most that, or at least; None: for the record."""

    name: str
    values: list[float]
    target: float | None
    unit: str
    at_least: bool = False
    series: str = ""
    """The line of a plot that this is a point of, at `x`."""

    x: float | None = None

    @property
    def median(self) -> float:
        """Of the repetitions."""
        return statistics.median(self.values)

    @property
    def held(self) -> bool:
        """Whether the median is on the target's side."""
        if self.target is None:
            return True
        return self.median >= self.target if self.at_least else self.median <= self.target

    def line(self) -> str:
        """The row of the table."""
        spread = f"{min(self.values):.3g} to {max(self.values):.3g}"
        target = "" if self.target is None else f"{'≥' if self.at_least else '≤'} {self.target:g} {self.unit}"
        return (
            f"{self.name:<70} {self.median:>7.4g} {self.unit:<2} {spread:>20} {target:>12}"
            f"{'' if self.held else '  MISSED'}"
        )

    def to_dict(self) -> dict[str, Any]:
        """As JSON-ready data."""
        return {**asdict(self), "median": self.median, "held": self.held}


def percentile(values: list[float], percent: int) -> float:
    """That percentile."""
    return statistics.quantiles(values, n=100)[percent - 1]


def most_in_a_second(times: list[float]) -> int:
    """The largest number of these moments that lie within one second."""
    ordered = sorted(times)
    most = first = 0
    for last, at in enumerate(ordered):
        while at - ordered[first] >= 1.0:
            first += 1
        most = max(most, last - first + 1)
    return most
