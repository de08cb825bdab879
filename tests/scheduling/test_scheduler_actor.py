"""`SchedulerActor`: each tick at its time and once, whatever fails, crashes or is set meanwhile."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from pgflow_starter import DatabaseError, MissingRightsError, Schedule, UnknownFlowError
from tests.scheduling.rig import Rig, SetClock, ticks_at

AWAY = DatabaseError("connection to secret failed", error_type="OperationalError", connection_lost=True)
LOCKED = DatabaseError("canceling statement", sqlstate="55P03")
DENIED = MissingRightsError("permission denied for table runs")
EVERY_SECOND, EVERY_MINUTE = "* * * * * *", "* * * * *"

Make = Callable[..., Rig]


@pytest.fixture
def rig() -> Iterator[Make]:
    """Makes rigs, which are stopped at the end."""
    made: list[Rig] = []

    def make(*schedules: Schedule, **more: Any) -> Rig:
        made.append(Rig(*schedules, **more))
        return made[-1]

    yield make
    for each in made:
        each.stop()


def test_each_tick_is_started_at_its_time(rig: Make) -> None:
    schedule = Schedule(EVERY_MINUTE, "shop")
    r = rig(schedule)
    r.advance(59.9)
    assert (r.database.started, r.state.last_result) == ([], None)
    r.advance(0.1)
    assert r.late == [("shop", 0.0)]
    assert (r.state.last_result, r.state.last_late, r.state.last_error) == ("started", 0.0, None)
    assert r.state.last_tick == r.board.began + timedelta(minutes=1)
    assert r.state.next_at == r.board.began + timedelta(minutes=2)
    r.advance(240)
    assert set(r.database.runs) == ticks_at(r, schedule, *range(60, 301, 60))
    assert r.database.tries == 5


def test_an_hour_of_each_second_s_ticks_drifts_by_nothing(rig: Make) -> None:
    schedule = Schedule(EVERY_SECOND, "shop")
    r = rig(schedule)
    r.advance(3600.5)
    assert set(r.database.runs) == ticks_at(r, schedule, *range(1, 3601))
    assert {late for _, late in r.late} == {0.0}


def test_schedules_are_independent_and_may_be_of_one_flow(rig: Make) -> None:
    r = rig(
        Schedule("*/2 * * * * *", "shop"),
        Schedule("*/3 * * * * *", "shop", name="third"),
        Schedule("0 0 1 1 *", "yearly"),
    )
    r.advance(6)
    assert sorted(r.database.started) == ["shop", "shop", "shop", "third", "third"]
    assert [s.last_result for s in r.board.states()] == ["started", "started", None]


def test_a_tick_whose_run_another_process_has_started_is_there_already_and_not_late(rig: Make) -> None:
    schedule, clock = Schedule(EVERY_MINUTE, "shop"), SetClock()
    one = rig(schedule, clock=clock)
    other = rig(schedule, clock=clock, database=one.database)
    other.advance(60)
    one.advance(0)
    assert {one.state.last_result, other.state.last_result} == {"started", "there already"}
    assert one.state.last_run_id == other.state.last_run_id
    assert one.database.started == ["shop"]
    assert len(one.late + other.late) == 1


@pytest.mark.parametrize(
    ("catch_up", "seconds"), [("none", [1, 2, 37]), ("last", [1, 2, 37]), ("all", [1, 2, *range(3, 38)])]
)
def test_after_an_outage_as_much_is_caught_up_as_was_wanted(rig: Make, catch_up: Any, seconds: list[int]) -> None:
    schedule = Schedule(EVERY_SECOND, "shop", catch_up=catch_up)
    r = rig(schedule)
    r.advance(2)
    r.away = True
    r.advance(34.9)
    assert len(r.database.runs) == 2
    hardly_late = [] if catch_up == "all" else [32, 33, 34, 35, 36]
    r.back()
    r.advance(0.1)
    assert set(r.database.runs) == ticks_at(r, schedule, *seconds, *hardly_late)
    assert r.state.last_error is None


def test_the_last_of_what_an_outage_made_late_is_started_once(rig: Make) -> None:
    schedule = Schedule(EVERY_MINUTE, "shop", catch_up="last")
    r = rig(schedule)
    r.away = True
    r.advance(330)
    r.back()
    assert set(r.database.runs) == ticks_at(r, schedule, 300)
    assert r.late == [("shop", 30.0)]


def test_what_fails_for_a_while_is_tried_again_with_the_backoff(rig: Make) -> None:
    schedule = Schedule(EVERY_MINUTE, "shop")
    r = rig(schedule)
    r.database.script += [LOCKED, UnknownFlowError("flow 'shop' is not in the database")]
    r.advance(60)
    assert (r.state.last_result, r.state.last_error) == ("failed", "canceling statement")
    assert r.state.last_error_type == "55P03"
    assert r.state.last_tick == r.board.began + timedelta(minutes=1)
    r.advance(1)
    assert r.state.last_error == "flow 'shop' is not in the database"
    r.advance(1.9)
    assert r.database.tries == 2
    r.advance(0.1)
    assert (str(r.state.last_result), r.late) == ("started", [("shop", 3.0)])
    assert r.state.last_error_type is None
    assert r.state.failing_since is None
    assert set(r.database.runs) == ticks_at(r, schedule, 60)


@pytest.mark.parametrize(("catch_up", "found"), [("none", [120]), ("last", [120]), ("all", [60, 120])])
def test_what_still_fails_when_the_next_is_due_is_judged_as_missed(rig: Make, catch_up: Any, found: list[int]) -> None:
    schedule = Schedule(EVERY_MINUTE, "shop", catch_up=catch_up)
    r = rig(schedule)
    r.database.always = LOCKED
    r.advance(119)
    r.database.always = None
    r.advance(3)
    assert set(r.database.runs) == ticks_at(r, schedule, *found)


def test_a_tick_is_tried_at_once_however_long_the_last_one_failed(rig: Make) -> None:
    schedule = Schedule(EVERY_MINUTE, "shop")
    r = rig(schedule)
    r.database.always = LOCKED
    r.advance(595)
    assert r.state.last_tick == r.board.began + timedelta(minutes=9)
    assert r.state.failing_since == r.board.began + timedelta(minutes=1)
    r.database.always = None
    r.advance(5)
    assert set(r.database.runs) == ticks_at(r, schedule, 600)
    assert r.late == [("shop", 0.0)]


def test_the_database_s_return_is_no_time_to_wait_for_the_backoff(rig: Make) -> None:
    r = rig(Schedule(EVERY_MINUTE, "shop", catch_up="last"))
    r.database.always = AWAY
    r.advance(70)
    r.database.always = None
    r.back()
    assert r.late == [("shop", 10.0)]


def test_what_will_not_pass_is_told_and_tried_again_with_the_next_tick(
    rig: Make, caplog: pytest.LogCaptureFixture
) -> None:
    schedule = Schedule(EVERY_MINUTE, "shop", catch_up="all")
    r = rig(schedule)
    r.database.always = DENIED
    r.advance(179)
    assert r.database.tries == 2
    assert (r.state.last_result, r.state.last_error) == ("failed", str(DENIED))
    r.database.always = None
    r.advance(1)
    assert set(r.database.runs) == ticks_at(r, schedule, 60, 120, 180)
    told = [x.getMessage() for x in caplog.records if x.levelno >= logging.WARNING]
    assert told == [f"schedule shop: {DENIED}"]  # not once a tick


def test_no_password_is_told(rig: Make) -> None:
    r = rig(Schedule(EVERY_MINUTE, "shop"))
    r.database.script.append(AWAY)
    r.advance(60)
    assert r.state.last_error == "connection to *** failed"


def test_no_thread_to_be_had_is_waited_out(rig: Make) -> None:
    r = rig(Schedule(EVERY_MINUTE, "shop"))
    r.lane.full = True
    r.advance(62)
    r.lane.full = False
    r.advance(1)
    assert r.late == [("shop", 3.0)]


# --- what was missed before -------------------------------------------------------------------------------------------


def test_a_starter_begins_with_what_was_missed_while_there_was_none(rig: Make) -> None:
    schedule = Schedule(EVERY_SECOND, "shop", catch_up="all", catch_up_within=60)
    before = rig(schedule)
    before.database.since = before.board.began - timedelta(days=1)
    before.advance(3)
    before.stop()
    after = rig(schedule, clock=before.clock, database=before.database)
    assert before.database.tries == 3  # nothing was missed, and all are known
    after.stop()
    before.clock.advance(20)
    rig(schedule, clock=before.clock, database=before.database)
    assert set(before.database.runs) == ticks_at(before, schedule, *range(1, 24))
    assert before.database.tries == 23


def test_what_was_missed_before_is_asked_again_until_there_is_an_answer(rig: Make) -> None:
    schedule, clock = Schedule(EVERY_MINUTE, "shop", catch_up="last"), SetClock()
    clock.advance(90)
    scripted = rig(schedule).database
    scripted.since = clock.now() - timedelta(days=1)
    scripted.unanswered += [AWAY, AWAY]
    r = rig(schedule, clock=clock, database=scripted)
    assert (r.state.last_result, r.state.last_error) == (None, "connection to *** failed")
    r.advance(3)
    assert (r.state.last_result, r.state.last_error, r.late) == ("started", None, [("shop", 33.0)])


def test_where_it_may_not_be_asked_it_is_with_each_tick(rig: Make) -> None:
    schedule, clock = Schedule(EVERY_MINUTE, "shop", catch_up="last"), SetClock()
    clock.advance(90)
    scripted = rig(schedule).database
    scripted.unanswered += [DENIED, DENIED]
    r = rig(schedule, clock=clock, database=scripted)
    r.advance(29)
    assert (len(scripted.unanswered), r.state.last_error) == (1, str(DENIED))
    r.advance(31)
    assert len(scripted.unanswered) == 0
    r.advance(60)
    assert r.state.last_result == "started"


# --- crashes, clocks, the end -----------------------------------------------------------------------------------------


def test_a_crash_between_two_ticks_changes_nothing(rig: Make) -> None:
    schedule = Schedule(EVERY_SECOND, "shop")
    r = rig(schedule)
    for _ in range(3):
        r.advance(2.5)
        r.crash()
    assert set(r.database.runs) == ticks_at(r, schedule, *range(1, 8))
    assert r.database.tries == 7


def test_what_was_under_way_at_a_crash_is_neither_lost_nor_done_again(rig: Make) -> None:
    schedule = Schedule(EVERY_MINUTE, "shop")
    r = rig(schedule)
    r.lane.held = []
    r.advance(60)
    (call,) = r.lane.held
    r.crash()
    assert r.lane.held == [call]
    r.lane.held = None
    call()
    r.settle()
    assert (r.state.last_result, r.database.tries) == ("started", 1)


def test_ticks_that_come_due_while_one_is_under_way_follow_it(rig: Make) -> None:
    schedule = Schedule(EVERY_SECOND, "shop")
    r = rig(schedule)
    r.lane.held = []
    r.advance(4)
    (call,) = r.lane.held
    assert r.state.next_at == r.board.began + timedelta(seconds=5)
    r.lane.held = None
    call()
    r.settle()
    assert set(r.database.runs) == ticks_at(r, schedule, 1, 2, 3, 4)


def test_a_tick_whose_start_takes_long_is_told_meanwhile(rig: Make) -> None:
    r = rig(Schedule(EVERY_MINUTE, "shop"))
    r.lane.held = []
    r.advance(64.9)
    assert r.state.starting is None
    r.advance(0.1)
    assert r.state.starting == r.board.began + timedelta(minutes=1)
    (call,) = r.lane.held
    call()
    r.settle()
    assert (r.state.starting, r.state.last_result) == (None, "started")


def test_a_clock_that_is_set_ahead_is_followed_within_a_minute(rig: Make) -> None:
    schedule = Schedule("0 0 * * *", "shop")
    r = rig(schedule)
    r.advance(1)
    r.clock.set_by = timedelta(hours=23, minutes=58)
    r.advance(119)
    assert set(r.database.runs) == ticks_at(r, schedule, 86_400)
    assert r.late == [("shop", 0.0)]


def test_a_clock_that_is_set_back_starts_no_tick_twice_and_is_followed(rig: Make) -> None:
    schedule = Schedule(EVERY_MINUTE, "shop")
    r = rig(schedule)
    r.advance(600)
    assert len(r.database.runs) == 10
    r.clock.set_by = timedelta(minutes=-3)
    r.advance(120)
    assert str(r.state.last_result) == "there already"
    r.advance(180)
    assert set(r.database.runs) == ticks_at(r, schedule, *range(60, 721, 60))
    assert str(r.state.last_result) == "started"


def test_nothing_begins_once_the_starter_stops(rig: Make) -> None:
    r = rig(Schedule(EVERY_MINUTE, "shop"))
    r.shutdown.begin(0.0)
    r.advance(60)
    assert r.database.tries == 0


def test_each_wait_is_a_minute_at_most(rig: Make) -> None:
    r = rig(Schedule("0 0 1 1 *", "shop"))
    assert r.timers.next_in == 60
    assert r.timers.pending == 1
