"""`Schedule`: what it may be, and the ids of its runs."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

import pytest

import pgflow_starter as pgflow
from pgflow_starter import Schedule
from pgflow_starter.config import settings_from
from pgflow_starter.core.schedule import retention_problems
from tests.support.starters import echo_job

SEVEN = datetime(2026, 11, 29, 7, tzinfo=UTC)


def test_a_schedule_is_of_a_flow_a_job_a_slug_or_whatever_defines_a_flow() -> None:
    class Defined:
        @staticmethod
        def __pgflow_definition__() -> pgflow.FlowDefinition:
            return echo_job("by_hand").__pgflow_definition__()

    given = (echo_job("mail"), pgflow.Flow("order"), "nightly", Defined)
    assert [Schedule("0 7 * * *", flow).slug for flow in given] == ["mail", "order", "nightly", "by_hand"]


def test_its_name_is_the_slug_unless_it_has_one() -> None:
    assert Schedule("0 7 * * *", "nightly").title == "nightly"
    assert Schedule("0 7 * * *", "nightly", name="of the shop").title == "of the shop"


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"cron": "0 7 * *"}, "cron must have five fields, or six, the seconds first, got '0 7 \\* \\*'"),
        ({"cron": "@daily"}, "cron must have five fields"),
        ({"cron": None}, "cron must have five fields"),
        ({"cron": "0 25 * * *"}, "cron '0 25 \\* \\* \\*' is not valid: bad hour"),
        ({"cron": "0 0 30 2 *"}, "not valid: bad day-of-month"),
        ({"timezone": "Berlin"}, "timezone must be the name of one, such as 'Europe/Berlin', got 'Berlin'"),
        ({"timezone": "../etc"}, "timezone must be"),
        ({"timezone": "Europe"}, "timezone must be"),
        ({"timezone": None}, "timezone must be"),
        ({"flow": "Nightly"}, "flow 'Nightly' is not valid: lowercase letters"),
        ({"flow": object()}, "flow must be a flow, a job or a slug: .* has no __pgflow_definition__"),
        ({"name": ""}, "name must be a text of 1 to 100 printable characters, got ''"),
        ({"name": "a\nb"}, "name must be"),
        ({"name": 7}, "name must be"),
        ({"catch_up": "some"}, "catch_up must be 'none' or 'last' or 'all', got 'some'"),
        ({"catch_up_within": 0}, "catch_up_within must be seconds above 0 and at most 366 days, got 0"),
        ({"catch_up_within": True}, "catch_up_within must be"),
        ({"input": {"a": {1, 2}}}, "input.*a"),
    ],
    ids=lambda given: next(iter(given)) if isinstance(given, dict) else "",
)
def test_what_is_wrong_is_refused_where_it_is_made(bad: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Schedule(**{"cron": "0 7 * * *", "flow": "nightly", **bad})


def test_all_that_is_wrong_is_told_at_once() -> None:
    with pytest.raises(ValueError, match=r"schedule 'nightly': cron .*; schedule 'nightly': timezone .*; .* catch_up "):
        Schedule("x", "nightly", timezone="y", catch_up="z")  # type: ignore[arg-type]


def test_the_id_of_a_tick_s_run_is_made_of_name_and_tick_in_a_way_that_anybody_can_repeat() -> None:
    schedule = Schedule("0 7 * * *", "nightly")
    assert schedule.run_id(SEVEN) == uuid5(NAMESPACE_URL, "pgflow-schedule:nightly:2026-11-29T07:00:00Z")
    assert schedule.run_id(SEVEN) == UUID("5c21cdbc-6cca-50a6-a92c-d20080945388")
    assert schedule.run_id(SEVEN.astimezone(timezone(timedelta(hours=9)))) == schedule.run_id(SEVEN)
    others = {Schedule("0 7 * * *", "nightly", name="other").run_id(SEVEN), schedule.run_id(SEVEN + timedelta(days=1))}
    assert len(others - {schedule.run_id(SEVEN)}) == 2


def test_two_of_one_name_are_refused_and_both_are_named() -> None:
    two = [Schedule("0 7 * * *", "nightly"), Schedule("0 8 * * *", "other", name="nightly")]
    with pytest.raises(ValueError, match=r"named 'nightly': '0 7 \* \* \*' of nightly and '0 8 \* \* \*' of other"):
        settings_from("", {"schedules": two})
    with pytest.raises(ValueError, match="schedule 'nightly' is listed twice"):
        settings_from("", {"schedules": [two[0], two[0]]})
    assert len(settings_from("", {"schedules": [two[0], Schedule("0 8 * * *", "nightly", name="late")]}).schedules) == 2


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("nightly", "schedules must be a list"),
        (7, "schedules must be a list"),
        (["night"], r"schedules\[0\] must be"),
        (
            Schedule("0 7 * * *", "nightly", input="hunter2"),
            "schedules must be a list of Schedule objects, got a Sched",
        ),
        ([{"input": "hunter2"}], r"schedules\[0\] must be a Schedule, got a dict"),
    ],
    ids=["text", "int", "texts", "one alone", "a dict"],
)
def test_what_is_no_list_of_schedules_is_a_bad_setting_among_the_others(given: Any, words: str) -> None:
    with pytest.raises(ValueError, match=f"{words}.*pool_size") as refused:
        settings_from("", {"schedules": given, "pool_size": 0})
    assert "hunter2" not in str(refused.value)


def test_schedules_may_come_one_after_the_other() -> None:
    given = (Schedule("0 7 * * *", slug) for slug in ("a", "b"))
    assert len(settings_from("", {"schedules": given}).schedules) == 2


def test_without_cronsim_a_schedule_can_be_made_and_not_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cronsim", None)
    schedule = Schedule("0 25 * * *", "nightly")
    with pytest.raises(pgflow.MissingExtraError, match=r"schedules need cronsim.*pip install '\.\[schedule\]'"):
        pgflow.start("", schedules=[schedule])
    assert settings_from("", {"schedules": []}).schedules == ()


def test_what_may_be_caught_up_must_not_have_been_pruned() -> None:
    hour = timedelta(hours=1)
    late = [Schedule("0 7 * * *", "a", catch_up="all"), Schedule("0 7 * * *", "b", catch_up_within=10**6)]
    assert list(retention_problems(late, None, None)) == []
    assert list(retention_problems(late, 2 * hour, None)) == []
    (problem,) = retention_problems(late, 2 * hour, hour)
    assert problem.startswith("schedule a: catch_up_within must be below the retention of 1:00:00")
