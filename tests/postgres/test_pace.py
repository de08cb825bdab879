"""Two attempts a second, by however many."""

from __future__ import annotations

import pytest

from pgflow_starter.postgres.connections.pace import INTERVAL, Pace
from pgflow_starter.testing import ManualClock


def test_attempts_that_fail_take_turns() -> None:
    pace = Pace(ManualClock())
    assert [pace.reserve() for _ in range(4)] == pytest.approx([0, INTERVAL, 2 * INTERVAL, 3 * INTERVAL])


def test_what_was_answered_keeps_nobody_waiting() -> None:
    pace = Pace(ManualClock())
    for _ in range(10):
        pace.reserve()
        pace.give_back()
    assert pace.reserve() == 0


def test_turns_that_nobody_took_are_not_saved_up() -> None:
    clock = ManualClock()
    pace = Pace(clock)
    pace.reserve()
    clock.advance(60)
    assert [pace.reserve() for _ in range(2)] == pytest.approx([0, INTERVAL])


def test_an_attempt_that_begins_late_puts_off_the_next() -> None:
    clock = ManualClock()
    pace = Pace(clock)
    pace.reserve()
    clock.advance(INTERVAL / 2)
    pace.begin()
    assert pace.reserve() == pytest.approx(INTERVAL)
    pace.begin()
    assert pace.reserve() == pytest.approx(2 * INTERVAL)


def test_a_turn_that_comes_too_late_is_not_taken() -> None:
    pace = Pace(ManualClock())
    pace.reserve()
    assert pace.reserve_within(INTERVAL / 2) is None
    assert pace.reserve_within(INTERVAL) == pytest.approx(INTERVAL)
    assert pace.reserve() == pytest.approx(2 * INTERVAL)
