"""Whatever happens to a flow, the fast lane leaves the rows that the core's functions leave."""

from __future__ import annotations

import pytest

from tests.fast_lane.histories import History
from tests.fast_lane.sides import Side

HISTORIES = 200
"""`make prove` plays a hundred times as many, others each time."""

SHARE = 50


@pytest.mark.parametrize("first", range(1, HISTORIES, SHARE))
def test_each_history_comes_to_the_same_rows_by_both(sides: tuple[Side, Side], first: int) -> None:
    by_lane = 0
    for seed in range(first, first + SHARE):
        history = History(seed, *sides)
        assert not history.differences(), history.again
        by_lane += history.by_lane
    assert by_lane > SHARE, "the fast lane had hardly anything to do"
