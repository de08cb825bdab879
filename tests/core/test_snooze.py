"""`Snooze`: how long a handler may put its task off."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

import pgflow_starter as pgflow
from pgflow_starter.core.snooze import LONGEST


@pytest.mark.parametrize("seconds", [0, 0.25, 86_400, LONGEST])
def test_it_says_its_seconds_and_survives_copies(seconds: float) -> None:
    snooze = pgflow.Snooze(seconds)
    assert [s.seconds for s in (snooze, copy.copy(snooze), pickle.loads(pickle.dumps(snooze)))] == [seconds] * 3
    assert f"in {seconds:g} s" in str(snooze)


@pytest.mark.parametrize(
    "wrong", [-1, float("nan"), float("inf"), 10**400, LONGEST + 1, True, None, "60"], ids=lambda v: str(v)[:9]
)
def test_what_is_no_such_number_is_refused_where_it_is_made(wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"Snooze: seconds must be a number from 0 to 315360000 \(ten years\), got"):
        pgflow.Snooze(wrong)
