"""How long runs are kept: what may be said, and what is meant."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from pgflow_starter import Retention
from pgflow_starter.core.retention import retention_of

DAY = timedelta(days=1)


def test_the_defaults_are_thirty_days_and_ninety_for_what_failed() -> None:
    assert Retention() == Retention(completed=timedelta(days=30), failed=timedelta(days=90))


@pytest.mark.parametrize(
    "kept", [30, 30.0, "30d", True, timedelta(-1), timedelta(days=36_501), timedelta.max], ids=repr
)
def test_what_is_no_time_to_keep_a_run_for_is_refused_by_name(kept: Any) -> None:
    for name in ("completed", "failed"):
        with pytest.raises(ValueError, match=f"^{name} of a Retention must be "):
            Retention(**{name: kept})
    with pytest.raises(ValueError, match=r"^older_than must be "):
        retention_of(kept)


def test_one_time_is_for_all_and_no_time_is_for_ever() -> None:
    assert retention_of(DAY) == Retention(DAY, DAY)
    assert retention_of(Retention(DAY, None)) == Retention(DAY, None)
    with pytest.raises(ValueError, match="older_than"):
        retention_of(None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("retention", "workers"),
    [(Retention(DAY, 2 * DAY), 2 * DAY), (Retention(3 * DAY, DAY), 3 * DAY), (Retention(DAY, None), None)],
    ids=("failed", "completed", "never"),
)
def test_workers_are_kept_as_long_as_any_run_that_they_may_have_had(retention: Retention, workers: Any) -> None:
    assert retention.workers == workers
