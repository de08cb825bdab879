"""The ticks of a schedule: five fields and six, at the change of the clocks; which are due, and which were missed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgflow_starter import Schedule
from pgflow_starter.core.cron import ticks_of
from pgflow_starter.core.ticks import GRACE, Known, begin_after, due

NOW = datetime(2026, 3, 4, 12, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")
SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)


def first(cron: str, after: datetime, count: int = 3, timezone: str = "UTC") -> list[str]:
    zone = ZoneInfo(timezone)
    return [f"{tick.astimezone(zone):%d %H:%M:%S}" for tick in islice(ticks_of(cron, timezone)(after), count)]


def test_five_fields_begin_with_the_minute_and_six_with_the_second() -> None:
    assert first("30 7 * * *", NOW) == ["05 07:30:00", "06 07:30:00", "07 07:30:00"]
    assert first("*/20 * * * * *", NOW) == ["04 12:00:20", "04 12:00:40", "04 12:01:00"]


def test_ticks_are_those_after_the_moment_whatever_its_fractions() -> None:
    for after in (NOW, NOW + timedelta(microseconds=1), NOW + 59.9 * SECOND):
        assert first("* * * * *", after, 1) == ["04 12:01:00"]
    assert first("* * * * *", NOW - timedelta(microseconds=1), 1) == ["04 12:00:00"]


def test_days_are_those_of_the_time_zone() -> None:
    assert first("0 0 * * *", NOW, 1, "Asia/Tokyo") == ["05 00:00:00"]
    assert next(ticks_of("0 0 * * *", "Asia/Tokyo")(NOW)) == datetime(2026, 3, 4, 15, tzinfo=UTC)


def test_a_time_that_is_left_out_in_spring_is_due_when_it_would_be_over_and_once() -> None:
    before = datetime(2026, 3, 28, 12, tzinfo=BERLIN)
    assert first("30 2 * * *", before, 3, "Europe/Berlin") == ["29 03:00:00", "30 02:30:00", "31 02:30:00"]
    assert first("0,30 2 * * *", before, 3, "Europe/Berlin") == ["29 03:00:00", "30 02:00:00", "30 02:30:00"]
    assert first("*/30 * * * *", datetime(2026, 3, 29, 1, tzinfo=BERLIN), 3, "Europe/Berlin") == [
        "29 01:30:00",
        "29 03:00:00",
        "29 03:30:00",
    ]


def test_a_time_that_comes_twice_in_autumn_is_due_once_and_each_half_hour_is_each_half_hour() -> None:
    before = datetime(2026, 10, 24, 12, tzinfo=BERLIN)
    assert first("30 2 * * *", before, 2, "Europe/Berlin") == ["25 02:30:00", "26 02:30:00"]
    between = datetime(2026, 10, 25, 1, 10, tzinfo=UTC)  # the second 02:10
    assert first("30 2 * * *", between, 1, "Europe/Berlin") == ["26 02:30:00"]
    hours = islice(ticks_of("*/30 * * * *", "Europe/Berlin")(datetime(2026, 10, 25, 0, tzinfo=UTC)), 6)
    assert [tick - datetime(2026, 10, 25, 0, tzinfo=UTC) for tick in hours] == [n * HOUR / 2 for n in range(1, 7)]


crons = st.sampled_from(["* * * * *", "*/7 * * * *", "30 2 * * *", "0,30 1-3 * * *", "15 */5 * * * *", "0 0 1 * *"])
zones = st.sampled_from(["UTC", "Europe/Berlin", "Australia/Lord_Howe", "America/New_York"])
moments = st.integers(0, 270 * 86_400).map(lambda seconds: datetime(2026, 3, 1, tzinfo=UTC) + seconds * SECOND)


@settings(max_examples=60)
@given(crons, zones, moments)
def test_wherever_one_begins_to_look_the_ticks_are_the_same(cron: str, zone: str, after: datetime) -> None:
    ticks = ticks_of(cron, zone)
    some = list(islice(ticks(after), 20))
    assert some == sorted(set(some))
    assert some[0] > after
    for number, tick in enumerate(some[:-1]):
        assert next(ticks(tick)) == some[number + 1]


# --- what is due ------------------------------------------------------------------------------------------------------

EVERY_MINUTE = ticks_of("* * * * *", "UTC")


def every_minute(catch_up: Any, within: float = 600) -> Schedule:
    return Schedule("* * * * *", "shop", catch_up=catch_up, catch_up_within=within)


def started(schedule: Schedule, done: datetime, now: datetime) -> list[str]:
    """What is started at `now`, one after the other."""
    found = []
    while (tick := (plan := due(schedule, EVERY_MINUTE, done, now)).tick) is not None:
        found.append(f"{tick:%H:%M}")
        done = tick
    assert plan.next_at is not None
    assert plan.next_at > now
    return found


@pytest.mark.parametrize("catch_up", ["none", "last", "all"])
def test_nothing_is_due_before_its_time_and_each_at_its_time(catch_up: str) -> None:
    schedule = every_minute(catch_up)
    assert started(schedule, NOW, NOW + 59.999 * SECOND) == []
    assert started(schedule, NOW, NOW + MINUTE) == ["12:01"]
    assert started(schedule, NOW + MINUTE, NOW + MINUTE) == []


@pytest.mark.parametrize(
    ("catch_up", "late", "caught_up"),
    [
        ("none", 0.0, ["12:05"]),
        ("none", 4.9, ["12:05"]),
        ("none", 5.0, []),
        ("last", 4.9, ["12:05"]),
        ("last", 5.0, ["12:05"]),
        ("last", 59.0, ["12:05"]),
        ("all", 4.9, ["12:01", "12:02", "12:03", "12:04", "12:05"]),
        ("all", 59.0, ["12:01", "12:02", "12:03", "12:04", "12:05"]),
    ],
)
def test_of_what_was_missed_as_much_is_caught_up_as_was_wanted(
    catch_up: str, late: float, caught_up: list[str]
) -> None:
    now = NOW + 5 * MINUTE + late * SECOND
    assert started(every_minute(catch_up), NOW, now) == caught_up


def test_what_was_missed_by_longer_than_wanted_is_left() -> None:
    now = NOW + 30 * MINUTE + 10 * SECOND
    assert started(every_minute("all", within=150), NOW, now) == ["12:28", "12:29", "12:30"]
    assert started(every_minute("last", within=9), NOW, now) == []
    assert started(every_minute("last", within=11), NOW, now) == ["12:30"]


def test_however_little_is_caught_up_what_is_hardly_late_is_started() -> None:
    for catch_up in ("last", "all"):
        assert started(every_minute(catch_up, within=1), NOW, NOW + MINUTE + 3 * SECOND) == ["12:01"]


def test_a_short_hiccup_loses_none_of_each_second_s_ticks() -> None:
    ticks, now = ticks_of("* * * * * *", "UTC"), NOW + 3.5 * SECOND
    for catch_up in ("none", "last", "all"):
        schedule, done, found = Schedule("* * * * * *", "shop", catch_up=catch_up), NOW, []
        while (tick := due(schedule, ticks, done, now).tick) is not None:
            found.append(tick)
            done = tick
        assert found == [NOW + n * SECOND for n in (1, 2, 3)]


def test_what_is_left_is_told_once() -> None:
    late = NOW + 5 * MINUTE + 30 * SECOND
    plan = due(every_minute("none"), EVERY_MINUTE, NOW, late)
    assert (plan.tick, plan.left) == (None, NOW + MINUTE)
    assert due(every_minute("none"), EVERY_MINUTE, plan.done, late).left is None
    plan = due(every_minute("last"), EVERY_MINUTE, NOW, late)
    assert (plan.tick, plan.left) == (NOW + 5 * MINUTE, NOW + MINUTE)
    again = due(every_minute("last"), EVERY_MINUTE, plan.done, late)
    assert (again.tick, again.left) == (NOW + 5 * MINUTE, None)
    assert due(every_minute("all"), EVERY_MINUTE, NOW, late).left is None


def test_the_last_that_was_missed_is_found_however_long_ago() -> None:
    schedule = Schedule("0 0 1 1 *", "shop", catch_up="last", catch_up_within=100 * 86_400)
    plan = due(schedule, ticks_of(schedule.cron, "UTC"), NOW - timedelta(days=99), NOW)
    assert plan.tick == datetime(2026, 1, 1, tzinfo=UTC)


# --- what was missed before -------------------------------------------------------------------------------------------


class Before:
    """A database that has the flow since then, and runs of these ticks."""

    def __init__(self, since: datetime | None, *runs: datetime) -> None:
        self.since = since
        self.runs = set(runs)
        self.asked: list[datetime] = []

    def __call__(self, ticks: Sequence[datetime]) -> Known:
        self.asked += ticks
        return Known(self.since, frozenset(self.runs & set(ticks)))


LONG_AGO = NOW - timedelta(days=300)
BEGAN = NOW + 30 * SECOND


def test_a_starter_goes_on_behind_the_newest_tick_that_has_a_run() -> None:
    database = Before(LONG_AGO, NOW - 20 * MINUTE, NOW - 4 * MINUTE)
    assert begin_after(every_minute("all", 3600), EVERY_MINUTE, BEGAN, database) == NOW - 4 * MINUTE
    assert min(database.asked) > NOW - 20 * MINUTE


def test_what_was_due_before_the_flow_was_there_is_not_caught_up() -> None:
    since = NOW - 3 * MINUTE - SECOND
    assert begin_after(every_minute("all", 3600), EVERY_MINUTE, BEGAN, Before(since)) == since
    last = begin_after(every_minute("last", 3600), EVERY_MINUTE, BEGAN, Before(NOW + SECOND))
    assert started(every_minute("last", 3600), last, BEGAN) == []


def test_what_was_due_before_is_not_caught_up_for_a_flow_that_is_not_there() -> None:
    assert begin_after(every_minute("all"), EVERY_MINUTE, BEGAN, Before(None)) == BEGAN


def test_what_is_too_long_ago_is_not_asked_about() -> None:
    database = Before(LONG_AGO)
    assert begin_after(every_minute("all", 300), EVERY_MINUTE, BEGAN, database) == BEGAN - timedelta(seconds=300)
    assert min(database.asked) >= BEGAN - timedelta(seconds=300)


def test_where_nothing_can_have_been_missed_the_database_is_not_asked() -> None:
    database = Before(None)
    assert begin_after(every_minute("none"), EVERY_MINUTE, BEGAN, database) == BEGAN - GRACE
    hourly = Schedule("0 * * * *", "shop", catch_up="all", catch_up_within=20)
    assert begin_after(hourly, ticks_of(hourly.cron, "UTC"), BEGAN, database) == BEGAN - 20 * SECOND
    assert database.asked == []


def test_of_many_ticks_the_newest_run_is_found_with_few_questions() -> None:
    every_second = Schedule("* * * * * *", "shop", catch_up="all", catch_up_within=7 * 86_400)
    ticks, run = ticks_of(every_second.cron, "UTC"), NOW - 3 * HOUR
    database = Before(LONG_AGO, run)
    assert begin_after(every_second, ticks, BEGAN, database) == run
    assert len(database.asked) < 20_000
