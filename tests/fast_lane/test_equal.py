"""Whatever happens to a flow, the fast lane leaves the rows that the core's functions leave."""

from __future__ import annotations

from itertools import count

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fast_lane.histories import History, Side, Step, flows
from tests.fast_lane.rows import rows

HISTORIES = 200
"""`make prove` plays a hundred times as many."""

_numbers = count()


def play(sides: tuple[Side, Side], steps: list[Step], data: st.DataObject) -> History:
    """One history; what both sides hold after it is the same, and is gone then."""
    slug = f"f{next(_numbers)}"
    history = History(slug, steps, data.draw, *sides)
    try:
        history.play()
        by_functions, by_the_lane = (rows(side.conn, slug) for side in sides)
        assert by_the_lane == by_functions
    finally:
        for side in sides:
            side.do("truncate pgflow.flows, realtime.events cascade")
            side.do("select pgmq.drop_queue(%s)", slug)
    return history


@settings(
    max_examples=HISTORIES,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(steps=flows(), data=st.data())
def test_each_history_comes_to_the_same_rows_by_both(
    sides: tuple[Side, Side], steps: list[Step], data: st.DataObject
) -> None:
    play(sides, steps, data)
