"""Backoff: the formula, its bounds, and what it refuses."""

from __future__ import annotations

import math
import sys
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pgflow_starter import Backoff

ALMOST_ONE = math.nextafter(1.0, 0.0)

units = st.floats(0.0, ALMOST_ONE)
attempts = st.integers(1, 200) | st.integers(1, 10**30)
positive = st.floats(min_value=sys.float_info.min, max_value=1e300)


@st.composite
def backoffs(draw: st.DrawFn) -> Backoff:
    base, maximum = sorted((draw(positive), draw(positive)))
    return Backoff(base=base, maximum=maximum, jitter=draw(st.floats(0.0, 1.0)))


def test_the_defaults_are_those_of_the_contract() -> None:
    assert Backoff() == Backoff(base=1.0, maximum=30.0, jitter=0.2)


@pytest.mark.parametrize(
    ("attempt", "low", "high"),
    [
        (1, 0.8, 1.2),
        (2, 1.6, 2.4),
        (3, 3.2, 4.8),
        (5, 12.8, 19.2),
        (6, 24.0, 30.0),  # 2**5 = 32 is capped to 30 first, its interval 24 to 36 then clipped to 30
        (7, 24.0, 30.0),
        (10**30, 24.0, 30.0),
    ],
)
def test_the_delay_is_drawn_from_the_whole_clipped_interval(attempt: int, low: float, high: float) -> None:
    backoff = Backoff()
    assert backoff.delay(attempt, 0.0) == pytest.approx(low)
    assert backoff.delay(attempt, 0.5) == pytest.approx((low + high) / 2)
    assert backoff.delay(attempt, ALMOST_ONE) == pytest.approx(high)


def test_at_the_cap_different_draws_stay_different() -> None:
    delays = [Backoff().delay(20, unit / 100) for unit in range(100)]
    assert len(set(delays)) == 100
    assert max(delays) < 30.0


def test_without_jitter_the_delays_double_up_to_the_maximum() -> None:
    backoff = Backoff(base=1, maximum=10, jitter=0)
    assert [backoff.delay(n, 0.7) for n in range(1, 7)] == [1, 2, 4, 8, 10, 10]


@given(backoffs(), attempts, units)
@example(Backoff(), 10**9, ALMOST_ONE)
@example(Backoff(base=30.0, jitter=0.1), 1, ALMOST_ONE)
def test_no_delay_is_negative_or_above_the_maximum(backoff: Backoff, attempt: int, unit: float) -> None:
    assert 0.0 <= backoff.delay(attempt, unit) <= backoff.maximum


@given(backoffs(), attempts, units, units)
def test_a_larger_draw_never_gives_a_shorter_delay(backoff: Backoff, attempt: int, one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert backoff.delay(attempt, low) <= backoff.delay(attempt, high)


@given(backoffs(), attempts, units)
def test_a_later_attempt_never_waits_less_for_the_same_draw(backoff: Backoff, attempt: int, unit: float) -> None:
    later, earlier = backoff.delay(attempt + 1, unit), backoff.delay(attempt, unit)
    assert later >= earlier or later == pytest.approx(earlier)


@pytest.mark.parametrize("attempt", [0, -1])
def test_attempts_count_from_one(attempt: int) -> None:
    with pytest.raises(ValueError, match=f"from 1, got {attempt}"):
        Backoff().delay(attempt, 0.5)


@pytest.mark.parametrize("name", ["base", "maximum", "jitter"])
@pytest.mark.parametrize(
    "value",
    [-0.1, math.nan, math.inf, -math.inf, True, None, "1", 10**400],
    ids=["negative", "nan", "inf", "-inf", "bool", "none", "text", "huge"],
)
def test_a_value_that_is_no_sensible_number_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{name} must be a number"):
        Backoff(**{name: value})


@pytest.mark.parametrize("name", ["base", "maximum"])
def test_a_backoff_that_would_never_wait_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be a number above 0"):
        Backoff(**{name: 0})


def test_every_bad_value_is_named_at_once() -> None:
    with pytest.raises(ValueError, match=r"base must be.*maximum must be.*jitter must be"):
        Backoff(base=-1, maximum=0, jitter=-2)


def test_a_base_above_the_maximum_is_capped_at_it() -> None:
    assert Backoff(base=31, jitter=0).delay(1, 0.5) == 30


def test_a_jitter_above_one_is_clipped_at_no_wait() -> None:
    assert Backoff(base=1, jitter=2).delay(1, 0.0) == 0
    assert Backoff(base=1, jitter=2).delay(1, 0.5) == 1.5
