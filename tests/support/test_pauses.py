"""`Between`, the tool by which the tests stop a thread between two steps."""

from __future__ import annotations

import pytest

from tests.support.pauses import Between

WAIT = 30.0


def steps(seen: list[str]) -> None:
    seen.append("first")
    seen.append("second")


def test_one_stands_between_the_two_steps_and_those_after_it_pass() -> None:
    seen: list[str] = []
    others: list[str] = []
    with Between(steps, 'append("first")', 'append("second")') as pair:
        pair.beside(lambda: steps(seen))
        pair.reached()
        pair.beside(lambda: steps(others)).join(WAIT)
        assert (seen, others) == (["first"], ["first", "second"])
    assert seen == ["first", "second"]


@pytest.mark.parametrize(("done", "next_"), [("append", "gone"), ('"second"', '"first"')])
def test_a_pair_that_is_no_more_is_named(done: str, next_: str) -> None:
    with pytest.raises(AssertionError, match=f"no step .{next_}"):
        Between(steps, done, next_)
