"""`schedules list`: what a running starter says of its schedules over HTTP."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

from pgflow_starter.core.state import MissedTicks, ScheduleResult, ScheduleState
from tests.cli.rig import NOW, WELL, Starter, answer
from tests.support.commands import call
from tests.support.stub_web import StubWeb

STARTED = ScheduleState(
    "shop",
    "shop",
    "*/5 * * * * *",
    "UTC",
    NOW + timedelta(seconds=5),
    NOW,
    UUID(int=5),
    ScheduleResult.STARTED,
    None,
    0.0123,
)
FAILED = ScheduleState(
    "of the \x1b[31mshop", "order", "0 7 * * *", "Europe/Berlin", None, NOW, None, ScheduleResult.FAILED, "not\nthere"
)
WAITS = ScheduleState("yearly", "yearly", "0 0 1 1 *", "UTC", NOW + timedelta(days=1))


def shown(web: StubWeb) -> list[str]:
    output = call("schedules", "list", f"127.0.0.1:{web.port}", env={"COLUMNS": "150"}).stdout
    return [" ".join(line.split()) for line in output.splitlines() if line.strip()]


def test_each_is_a_row_of_what_it_last_did_and_does_next(web: StubWeb, starter: Starter) -> None:
    starter.reply = ("200 OK", answer(replace(WELL, schedules=(STARTED, WAITS))))
    assert call("schedules", "list", f"127.0.0.1:{web.port}").exit_code == 0
    lines = shown(web)
    assert lines[0] == "schedule cron next last due last result late"
    assert lines[2] == "shop */5 * * * * * in 5 s 2030-01-02 03:04:05 UTC started 0.012 s"
    assert lines[3] == "yearly 0 0 1 1 * in 24 h"


def test_one_that_failed_is_exit_code_1_and_says_why(web: StubWeb, starter: Starter) -> None:
    starter.reply = ("200 OK", answer(replace(WELL, schedules=(STARTED, FAILED))))
    assert call("schedules", "list", f"127.0.0.1:{web.port}").exit_code == 1
    lines = shown(web)
    assert lines[3] == (
        "of the \N{REPLACEMENT CHARACTER}[31mshop (order) 0 7 * * * Europe/Berlin never again"
        " 2030-01-02 03:04:05 UTC failed"
    )
    assert lines[4] == "of the \N{REPLACEMENT CHARACTER}[31mshop: not there"


def test_ticks_that_were_missed_are_told_below_and_are_no_failure(web: StubWeb, starter: Starter) -> None:
    some = replace(STARTED, missed=MissedTicks(1200, NOW, NOW + timedelta(hours=1), "the database\nwas away"))
    one = replace(WAITS, missed=MissedTicks(1, NOW, NOW, "the clock was set ahead"))
    starter.reply = ("200 OK", answer(replace(WELL, schedules=(some, one))))
    assert call("schedules", "list", f"127.0.0.1:{web.port}").exit_code == 0
    see = "; see docs/troubleshooting.md#ticks-were-missed"
    assert " ".join(shown(web)[4:]) == (
        f"shop: 1,200 ticks missed, from 2030-01-02 03:04:05 to 2030-01-02 04:04:05 UTC: the database was away{see}"
        f" yearly: 1 tick missed, the one of 2030-01-02 03:04:05 UTC: the clock was set ahead{see}"
    )


def test_as_json_it_is_a_list(web: StubWeb, starter: Starter) -> None:
    starter.reply = ("200 OK", answer(replace(WELL, schedules=(STARTED, WAITS))))
    told = json.loads(call("schedules", "list", f"127.0.0.1:{web.port}", "--json").stdout)
    assert told == [STARTED.to_dict(), WAITS.to_dict()]


def test_none_is_said_also_by_a_starter_that_knows_of_no_schedules(web: StubWeb, starter: Starter) -> None:
    starter.reply = ("200 OK", answer().replace(b'"schedules": [], ', b""))
    result = call("schedules", "list", f"127.0.0.1:{web.port}")
    assert (result.exit_code, "the starter has no schedules" in result.stdout) == (0, True)


def test_a_starter_that_has_ended_says_so(web: StubWeb, starter: Starter) -> None:
    starter.reply = ("503 Gone", json.dumps({"error": "StarterStopped", "reason": "it was stopped"}).encode())
    result = call("schedules", "list", f"127.0.0.1:{web.port}")
    assert result.exit_code == 1
    assert "the starter has ended, StarterStopped: it was stopped" in result.stdout


def test_no_answer_is_exit_code_3() -> None:
    assert call("schedules", "list", "127.0.0.1:1").exit_code == 3
