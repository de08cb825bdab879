"""A starter's answers as lines: what went wrong since the one before, and what is well again."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from pgflow_starter.cli.changes import Changes
from pgflow_starter.cli.status_answer import read
from pgflow_starter.cli.status_url import parse
from pgflow_starter.cli.status_view import lines
from pgflow_starter.core.state import FastLaneState, MissedTicks, Outage, ScheduleResult, ScheduleState
from tests.cli.rig import NOW, WELL, WORKER, answer

URL = parse("shop:8080")
STARTED = ScheduleState("daily", "order", "0 7 * * *", "UTC", None, NOW, None, ScheduleResult.STARTED, None, None)
FAILED = replace(STARTED, last_result=ScheduleResult.FAILED, last_error="no such flow")
PLACE = "docs/troubleshooting.md#ticks-were-missed"
MISSED = replace(STARTED, missed=MissedTicks(1, NOW, NOW, "it was away"))
LATER = replace(FAILED, last_tick=NOW + timedelta(days=1))
TROUBLE = {
    "kind": "locked",
    "reason": "a lock is held",
    "since": NOW.isoformat(),
    "error_type": "",
    "scope": "all",
}


def away(reason: str) -> bytes:
    return answer(replace(WELL, outage=Outage(NOW, reason)))


def worker(**more: Any) -> bytes:
    return answer(workers=[{**WORKER, "failed": 0, **more}])


def schedule(state: ScheduleState) -> bytes:
    return answer(replace(WELL, schedules=(state,)), workers=[])


@pytest.mark.parametrize(
    ("bodies", "news"),
    [
        (
            [answer(), away("no \x1broute"), away("refused"), answer()],
            [["the database is away: no route"], [], ["the database is back"]],
        ),
        (
            [worker(), worker(failed=1), worker(failed=1), worker(failed=1200)],
            [
                ["worker of order: 1 attempt of tasks failed so far"],
                [],
                ["worker of order: 1,200 attempts of tasks failed so far"],
            ],
        ),
        (
            [worker(), worker(lost=True), worker(), worker(draining=True)],
            [["worker of order: lost"], ["worker of order: running"], ["worker of order: draining"]],
        ),
        (
            [worker(), worker(trouble=TROUBLE), worker()],
            [
                ["worker of order: a lock is held; see docs/troubleshooting.md#locked"],
                ["worker of order: its trouble is over"],
            ],
        ),
        (
            [schedule(STARTED), schedule(MISSED), schedule(MISSED), schedule(STARTED)],
            [
                [f"schedule daily: 1 tick missed, the one of 2030-01-02 03:04:05 UTC: it was away; see {PLACE}"],
                [],
                [],
            ],
        ),
        (
            [schedule(STARTED), schedule(FAILED), schedule(FAILED), schedule(LATER), schedule(STARTED)],
            [
                ["schedule daily: no such flow"],
                [],
                ["schedule daily: no such flow"],
                ["schedule daily: its last tick was started"],
            ],
        ),
        (
            [
                answer(replace(WELL, fast_lane=FastLaneState(on, why)))
                for on, why in ((True, "for 1"), (False, "unknown"))
            ],
            [["fast lane off: unknown"]],
        ),
        (
            [answer(), answer(replace(WELL, ready=False)), b'{"error": "StarterTerminated", "reason": "it gave up"}'],
            [
                ["http://shop:8080/status: not ready, healthy"],
                ["http://shop:8080/status: the starter has ended, StarterTerminated: it gave up"],
            ],
        ),
    ],
    ids=[
        "outage",
        "failed attempts",
        "lost and draining",
        "trouble",
        "missed ticks",
        "schedule",
        "fast lane",
        "headline",
    ],
)
def test_what_went_wrong_is_news_and_what_is_well_again(bodies: list[bytes], news: list[list[str]]) -> None:
    changes = Changes()
    _, *told = [changes.of(lines(URL, read(body, NOW))) for body in bodies]
    assert told == news
