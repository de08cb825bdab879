"""Whatever happens to a flow, the fast lane leaves the rows that the core's functions leave."""

from __future__ import annotations

from random import Random

import pytest

from tests.fast_lane.histories import History
from tests.fast_lane.sides import Side

HISTORIES = 200
"""`make prove` plays a hundred times as many, others each time."""

SHARE = 50


@pytest.mark.parametrize("first", range(1, HISTORIES, SHARE))
def test_each_history_comes_to_the_same_rows_by_both(sides: tuple[Side, Side], first: int) -> None:
    """Which one does not, its seed says: `make prove HISTORIES=1 SEED=` plays it alone."""
    by_lane = 0
    for seed in range(first, first + SHARE):
        history = History(Random(seed), *sides)
        assert not history.differences(), f"seed {seed}"
        by_lane += history.by_lane
    assert by_lane > SHARE, "the fast lane had hardly anything to do"
