"""Ticks that are left and that nobody started: what is told of them, why, and for how long."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from pgflow_starter import DatabaseError, MissedTicks, MissingRightsError, Schedule
from tests.scheduling.rig import Rig, SetClock

AWAY = DatabaseError("connection to secret failed", error_type="OperationalError", connection_lost=True)
LOCKED = DatabaseError("canceling statement", sqlstate="55P03")
DENIED = MissingRightsError("permission denied for table runs")
EVERY_SECOND, EVERY_MINUTE = "* * * * * *", "* * * * *"
HOUR = 3600

Make = Callable[..., Rig]


@pytest.fixture
def rig() -> Iterator[Make]:
    """Makes rigs whose database has the flow for long; they are stopped at the end."""
    made: list[Rig] = []

    def make(*schedules: Schedule, **more: Any) -> Rig:
        made.append(Rig(*schedules, **more))
        made[-1].database.since = made[-1].board.began - timedelta(days=30)
        return made[-1]

    yield make
    for each in made:
        each.stop()


def paused(rig: Rig, seconds: float) -> None:
    """Time goes on, and the process does not; then it does, for as long as others may still be at what it left."""
    rig.clock.advance(seconds)
    rig.advance(0)
    rig.advance(5)


def missed(rig: Rig) -> MissedTicks:
    """What is told of the first schedule."""
    assert rig.state.missed is not None
    return rig.state.missed


def at(rig: Rig, seconds: float) -> object:
    return rig.board.began + timedelta(seconds=seconds)


def test_ticks_that_an_outage_has_cost_are_told_in_one_line(rig: Make, caplog: pytest.LogCaptureFixture) -> None:
    r = rig(Schedule(EVERY_SECOND, "shop"))
    r.away = True
    r.advance(30)
    assert r.state.missed is None  # as long as it may be caught up, or another process may do it
    r.back()
    assert r.state.missed is None  # others may be at it
    r.advance(5)
    assert missed(r) == MissedTicks(25, at(r, 1), at(r, 25), "the database was away")  # type: ignore[arg-type]
    assert r.missed == [("shop", missed(r))]
    (line,) = [x.getMessage() for x in caplog.records if x.levelno >= logging.WARNING]
    assert line == (
        "schedule shop: 25 ticks were missed and left, from 2026-01-01T00:00:01+00:00 to 2026-01-01T00:00:25+00:00:"
        " the database was away (catch_up is 'none'); see docs/troubleshooting.md#ticks-were-missed"
    )


def test_a_process_that_stood_still_says_so(rig: Make) -> None:
    r = rig(Schedule(EVERY_MINUTE, "shop"))
    r.advance(90)
    paused(r, 200)
    assert (missed(r).count, missed(r).first, missed(r).last) == (3, at(r, 120), at(r, 240))
    assert missed(r).reason == "this process stood still: paused, suspended or short of CPU"


def test_of_those_before_the_last_that_is_caught_up_it_is_told(rig: Make) -> None:
    r = rig(Schedule(EVERY_MINUTE, "shop", catch_up="last"))
    paused(r, 330)
    assert (missed(r).count, missed(r).last) == (4, at(r, 240))
    assert r.state.last_tick == at(r, 300)


def test_where_all_are_caught_up_none_is_missed(rig: Make) -> None:
    r = rig(Schedule(EVERY_MINUTE, "shop", catch_up="all"))
    paused(r, 330)
    assert (r.state.missed, len(r.database.runs)) == (None, 5)


def test_what_another_process_has_started_is_not_told(rig: Make) -> None:
    schedule, clock = Schedule(EVERY_MINUTE, "shop"), SetClock()
    clock.advance(30)
    one = rig(schedule, clock=clock)
    other = rig(schedule, clock=clock, database=one.database)
    one.advance(300)
    other.advance(0)  # it was paused for all of it
    other.advance(5)
    assert (other.state.missed, other.missed) == (None, [])
    assert len(one.database.runs) == 5


def test_of_those_that_no_process_has_started_it_is_told_although_there_are_two(rig: Make) -> None:
    schedule, clock = Schedule(EVERY_MINUTE, "shop"), SetClock()
    one = rig(schedule, clock=clock)
    other = rig(schedule, clock=clock, database=one.database)
    one.advance(120)
    clock.advance(200)  # both are paused
    for each in (one, other):
        each.advance(0)
        each.advance(5)
        assert (missed(each).count, missed(each).first) == (3, at(each, 180))


def test_the_error_that_a_tick_failed_with_is_why_it_was_missed(rig: Make) -> None:
    r = rig(Schedule(EVERY_MINUTE, "shop"))
    r.database.always = LOCKED
    r.advance(80)
    assert (missed(r).count, missed(r).reason) == (1, "it could not be started: canceling statement")
    assert r.state.last_result == "failed"
    r.database.always = DENIED
    r.advance(120)
    r.database.always = None
    r.advance(50)
    assert (missed(r).count, missed(r).last) == (3, at(r, 180))
    assert missed(r).reason == f"it could not be started: {DENIED}"


def test_no_password_is_told_of_what_was_missed(rig: Make) -> None:
    r = rig(Schedule(EVERY_MINUTE, "shop"))
    r.database.always = AWAY
    r.advance(80)
    assert missed(r).reason == "it could not be started: connection to *** failed"


def test_a_call_that_hangs_is_why_the_ticks_behind_it_were_missed(rig: Make) -> None:
    r = rig(Schedule(EVERY_SECOND, "shop"))
    r.lane.held = []
    r.advance(30)
    (call,) = r.lane.held
    r.lane.held = None
    call()
    r.settle()
    r.advance(5)
    assert (missed(r).first, missed(r).reason) == (at(r, 2), "a call of the database was still under way")


def test_a_clock_that_was_set_ahead_is_why_ticks_were_missed(rig: Make) -> None:
    r = rig(Schedule(EVERY_MINUTE, "shop"))
    r.advance(10)
    r.clock.set_by = timedelta(minutes=10)
    r.advance(60)
    assert (missed(r).count, missed(r).reason) == (10, "the clock was set ahead, or the machine slept")


def test_it_is_told_until_an_hour_after_a_later_tick_was_started(rig: Make) -> None:
    r = rig(Schedule("0 0 * * *", "nightly"))
    paused(r, 24 * HOUR + 600)
    r.advance(23 * HOUR)
    assert missed(r).count == 1
    r.advance(3000 + HOUR - 6)
    assert (r.state.last_result, missed(r).count) == ("started", 1)
    r.advance(60)
    assert r.state.missed is None


def test_a_tick_that_was_caught_up_is_a_later_one(rig: Make) -> None:
    r = rig(Schedule("0 * * * *", "hourly", catch_up="last", catch_up_within=30 * HOUR))
    paused(r, 24 * HOUR + 600)
    assert missed(r).count == 23
    r.database.always = LOCKED
    r.advance(HOUR - 60)
    assert (missed(r).count, r.state.last_result) == (23, "failed")
    r.advance(120)
    assert r.state.missed is None


def test_what_is_missed_meanwhile_is_told_with_the_rest_and_as_long(rig: Make) -> None:
    r = rig(Schedule(EVERY_MINUTE, "shop"))
    paused(r, 200)
    r.advance(HOUR - 410)
    paused(r, 200)
    assert (missed(r).count, missed(r).first) == (6, at(r, 60))
    r.advance(HOUR - 60)
    assert missed(r).count == 6
    r.advance(120)
    assert r.state.missed is None


def test_where_the_database_cannot_say_who_started_what_it_is_asked_again(rig: Make) -> None:
    r = rig(Schedule(EVERY_MINUTE, "shop"))
    r.advance(1)
    r.database.unanswered += [LOCKED, DENIED]
    paused(r, 200)
    assert (r.state.missed, r.state.last_error) == (None, None)
    r.advance(4)
    assert missed(r).count == 3


def test_what_was_due_before_this_process_is_not_told_by_it(rig: Make) -> None:
    schedule, clock = Schedule("*/20 * * * *", "shop", catch_up="last", catch_up_within=3 * HOUR), SetClock()
    before = rig(schedule, clock=clock)
    before.stop()
    clock.advance(2 * HOUR + 600)
    after = rig(schedule, clock=clock, database=before.database)
    assert (after.state.last_result, after.state.missed) == ("started", None)
    paused(after, HOUR)
    assert (missed(after).count, missed(after).first) == (2, at(after, 600))


def test_a_crash_loses_nothing_of_it(rig: Make) -> None:
    r = rig(Schedule(EVERY_MINUTE, "shop"))
    r.advance(1)
    r.database.unanswered += [LOCKED]
    paused(r, 200)
    r.crash()
    r.advance(4)
    assert missed(r).count == 3


def test_what_another_process_is_about_to_start_by_its_own_clock_is_not_told(rig: Make) -> None:
    schedule, behind = Schedule(EVERY_MINUTE, "shop"), SetClock()
    behind.set_by = timedelta(seconds=-8)
    one = rig(schedule)
    other = rig(schedule, clock=behind, database=one.database)
    one.clock.advance(66)
    one.advance(0)
    other.advance(66)  # it is 0:58 by that clock
    assert len(one.database.runs) == 1  # of a tick before
    for each in (other, one):
        each.advance(10)
    assert (one.state.missed, one.missed) == (None, [])
    assert len(one.database.runs) == 2


def test_of_ticks_that_fail_again_and_again_it_is_told_while_they_do(rig: Make) -> None:
    r = rig(Schedule("*/8 * * * * *", "shop"))
    r.database.always = LOCKED
    r.advance(60)
    assert missed(r).count >= 4
