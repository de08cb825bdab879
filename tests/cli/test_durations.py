"""How long, as it is written in options."""

from __future__ import annotations

from datetime import timedelta

import click
import pytest

from pgflow_starter.cli.durations import Duration, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30", 30),
        ("0", 0),
        ("30s", 30),
        ("0.5s", 0.5),
        ("15m", 900),
        ("12h", 43_200),
        ("1.5h", 5400),
        (" 30d ", 2_592_000),
    ],
)
def test_a_duration_is_a_number_and_perhaps_its_unit(text: str, seconds: float) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "-1", "s", "1w", "1 h", "1e3", "nan", "inf", "1h30m", "٣", "1.", ".5"])
def test_what_is_no_duration_is_refused_with_how_one_is_written(text: str) -> None:
    with pytest.raises(ValueError, match=r"not a duration; write 30 or 30s"):
        parse_duration(text)


def test_a_duration_that_no_timedelta_holds_is_refused() -> None:
    with pytest.raises(ValueError, match="'9999999999d' is too long"):
        parse_duration("9999999999d")


def test_as_an_option_a_bad_duration_is_bad_usage() -> None:
    assert Duration().convert("2m", None, None) == timedelta(minutes=2)
    with pytest.raises(click.BadParameter, match="'soon' is not a duration"):
        Duration().convert("soon", None, None)
