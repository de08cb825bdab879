"""When the first tasks of a run may begin, and what a caller may say about it."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest

from pgflow_starter.core.due import LONGEST_DELAY, Due, due_of

EAST = timezone(timedelta(hours=14))
WEST = timezone(timedelta(hours=-12))


@pytest.mark.parametrize("delay", [None, 0, 0.0])
def test_without_a_delay_it_is_at_once(delay: float | None) -> None:
    assert due_of(delay, None) is None


@pytest.mark.parametrize("delay", [1, 0.25, 86_400 * 365, LONGEST_DELAY])
def test_a_delay_is_a_number_of_seconds(delay: float) -> None:
    assert due_of(delay, None) == Due(float(delay), None)


@pytest.mark.parametrize("delay", [-1, -0.001, math.nan, math.inf, 10**400, LONGEST_DELAY * 2, True, "5", timedelta(1)])
def test_what_is_no_number_of_seconds_or_too_many_is_refused(delay: Any) -> None:
    with pytest.raises(ValueError, match=r"^delay must be a number of seconds, from 0 to 9e\+12, got "):
        due_of(delay, None)


def test_a_time_is_told_in_utc_to_the_microsecond() -> None:
    at = datetime(2026, 12, 24, 18, 30, 0, 123456, tzinfo=EAST)
    assert due_of(None, at) == Due(None, "2026-12-24T04:30:00.123456+00:00")


def test_a_naive_time_is_refused_for_that() -> None:
    with pytest.raises(ValueError, match=r"at must be an aware datetime, .*got a naive one, of which nobody knows"):
        due_of(None, datetime(2026, 12, 24, tzinfo=UTC).replace(tzinfo=None))


@pytest.mark.parametrize("at", ["2026-12-24", date(2026, 12, 24), 1.0])
def test_what_is_no_time_is_refused(at: Any) -> None:
    with pytest.raises(ValueError, match="at must be an aware datetime"):
        due_of(None, at)


@pytest.mark.parametrize("at", [datetime.max.replace(tzinfo=WEST), datetime.min.replace(tzinfo=EAST)])
def test_a_time_that_is_beyond_the_calendar_in_utc_is_refused(at: datetime) -> None:
    with pytest.raises(ValueError, match="within the years 1 to 9999"):
        due_of(None, at)


def test_both_at_once_are_refused() -> None:
    with pytest.raises(ValueError, match="give delay= or at=, not both"):
        due_of(0, datetime.max.replace(tzinfo=UTC))
