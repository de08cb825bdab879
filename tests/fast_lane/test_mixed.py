"""Workers by the fast lane and by the core's functions share their queues; `make prove` plays fifty times as much."""

from __future__ import annotations

from tests.fast_lane.mixed import mix

TASKS = 400


def test_both_kinds_of_workers_do_each_task_once_though_they_are_killed(database: str) -> None:
    found = mix(database, TASKS, processes=2, kills=2, wait=60.0)
    assert found.problems == []
    assert found.tasks == TASKS
