"""Which ticks of a gap nobody started."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from pgflow_starter.core import missed
from pgflow_starter.core.cron import ticks_of
from pgflow_starter.core.missed import Gap, missed_in, with_earlier
from pgflow_starter.core.state import MissedTicks
from pgflow_starter.core.ticks import Known

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
LONG_AGO = NOON - timedelta(days=300)
MINUTE = timedelta(minutes=1)
EVERY_MINUTE, EVERY_SECOND = ticks_of("* * * * *", "UTC"), ticks_of("* * * * * *", "UTC")
GAP = Gap(NOON, NOON + 5 * MINUTE, "the database was away")


class Runs:
    """A database that has the flow since then, and runs of these ticks."""

    def __init__(self, since: datetime | None, *started: datetime) -> None:
        self.since = since
        self.started = frozenset(started)
        self.asked: list[int] = []

    def __call__(self, ticks: Sequence[datetime]) -> Known:
        self.asked.append(len(ticks))
        return Known(self.since, self.started & set(ticks))


def test_the_ticks_of_a_gap_are_those_behind_its_beginning_up_to_its_end() -> None:
    found = missed_in(GAP, EVERY_MINUTE, Runs(LONG_AGO))
    assert found == MissedTicks(5, NOON + MINUTE, NOON + 5 * MINUTE, "the database was away")


def test_what_another_process_started_was_not_missed() -> None:
    some = Runs(LONG_AGO, NOON + MINUTE, NOON + 3 * MINUTE, NOON + 5 * MINUTE)
    assert missed_in(GAP, EVERY_MINUTE, some) == MissedTicks(2, NOON + 2 * MINUTE, NOON + 4 * MINUTE, GAP.reason)
    all_of_them = Runs(LONG_AGO, *(NOON + n * MINUTE for n in range(1, 6)))
    assert missed_in(GAP, EVERY_MINUTE, all_of_them) is None


def test_what_was_due_before_the_flow_was_there_was_missed_by_nobody() -> None:
    found = missed_in(GAP, EVERY_MINUTE, Runs(NOON + 3.5 * MINUTE))
    assert found == MissedTicks(2, NOON + 4 * MINUTE, NOON + 5 * MINUTE, GAP.reason)
    assert missed_in(GAP, EVERY_MINUTE, Runs(None)) is None


def test_of_a_long_gap_the_first_are_counted_with_few_questions() -> None:
    year, runs = Gap(NOON, NOON + timedelta(days=365), "paused"), Runs(LONG_AGO)
    found = missed_in(year, EVERY_SECOND, runs)
    assert found is not None
    assert (found.count, found.first) == (missed.MOST, NOON + timedelta(seconds=1))
    assert len(runs.asked) == 10


def test_a_gap_that_nobody_has_looked_into_goes_on_with_the_next() -> None:
    later = Gap(NOON + 10 * MINUTE, NOON + 20 * MINUTE, "paused")
    assert later.wider(None) == later
    assert later.wider(GAP) == Gap(NOON, NOON + 20 * MINUTE, "paused")


def test_what_is_told_of_two_gaps_is_told_as_one_of_the_later_reason() -> None:
    one = MissedTicks(2, NOON, NOON + MINUTE, "away")
    other = MissedTicks(3, NOON + 10 * MINUTE, NOON + 12 * MINUTE, "paused")
    assert with_earlier(other, None) == other
    assert with_earlier(other, one) == MissedTicks(5, NOON, NOON + 12 * MINUTE, "paused")
