"""Lines about this and that: which of them are news."""

from __future__ import annotations

import pytest

from pgflow_starter.cli.changes import Changes, Line

BAD, WORSE = Line("it", "bad"), Line("it", "worse")
WELL = Line("it", "well again", calm=True)


@pytest.mark.parametrize(
    ("looks", "news"),
    [
        ([[BAD], [BAD], [WORSE]], [["bad"], [], ["worse"]]),
        ([[BAD], [], [BAD]], [["bad"], [], ["bad"]]),
        ([[WELL], [WELL], [BAD], [WELL], [WELL]], [[], [], ["bad"], ["well again"], []]),
        ([[BAD], [], [WELL]], [["bad"], [], []]),
        ([[BAD, Line("that", "bad")], [BAD, Line("that", "worse")]], [["bad", "bad"], ["worse"]]),
        ([[Line("it", "in 2 s", "bad")], [Line("it", "in 1 s", "bad")]], [["in 2 s"], []]),
        ([[Line("it", "bad", 1)], [Line("it", "bad", 2)]], [["bad"], ["bad"]]),
    ],
    ids=["another", "gone and back", "calm", "nobody knows", "by what it is about", "same state", "other state"],
)
def test_news_is_what_is_another_than_before(looks: list[list[Line]], news: list[list[str]]) -> None:
    changes = Changes()
    assert [changes.of(lines) for lines in looks] == news
