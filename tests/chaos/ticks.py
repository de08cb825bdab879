"""What starters have besides where runs have their lives: a job that snoozes, a schedule and its job, a retention.

A schedule starts a job of its own, which nobody purges: of its ticks each must be there, whatever was broken.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg

import pgflow_starter as pgflow
from tests.chaos.ledger import Key
from tests.chaos.modules import ATTEMPTS

EVERY = 2
"""Seconds from tick to tick."""

SCHEDULE = pgflow.Schedule(f"*/{EVERY} * * * * *", "chaos_tick", "tick", catch_up="all")
SETTINGS: dict[str, Any] = {
    "schedules": [SCHEDULE],
    "retention": pgflow.Retention(completed=timedelta(days=1), failed=timedelta(days=1)),
}
_STARTED = "select run_id from pgflow.runs where flow_slug = 'chaos_tick'"


def jobs(seen: Callable[[Key], object]) -> list[pgflow.Job]:
    """One for the ticks, and one that snoozes until it is the time it was given, on the machine's monotonic clock."""

    @pgflow.job("chaos_tick", base_delay=1, max_attempts=ATTEMPTS)
    def tick(message: Any, ctx: pgflow.TaskContext) -> Any:
        seen((ctx.run_id, ctx.step_slug, ctx.task_index))
        return message

    @pgflow.job("chaos_snooze", base_delay=1, max_attempts=ATTEMPTS)
    def snooze(until: float, ctx: pgflow.TaskContext) -> float:
        if (left := until - time.monotonic()) > 0:
            raise pgflow.Snooze(left)
        seen((ctx.run_id, ctx.step_slug, ctx.task_index))
        return until

    return [tick, snooze]


def due(since: datetime, until: datetime) -> Iterator[datetime]:
    """The ticks after one time and up to another."""
    second = int(since.timestamp()) // EVERY * EVERY + EVERY
    while second <= until.timestamp():
        yield datetime.fromtimestamp(second, UTC)
        second += EVERY


def missing(admin: psycopg.Connection[tuple[Any, ...]], since: datetime, until: datetime) -> list[datetime]:
    """Those of these ticks that have no run."""
    there = {row[0] for row in admin.execute(_STARTED)}
    return [tick for tick in due(since, until) if SCHEDULE.run_id(tick) not in there]


def untimely(admin: psycopg.Connection[tuple[Any, ...]], since: datetime, until: datetime) -> int:
    """How many runs there are that are of none of these ticks."""
    ids = {SCHEDULE.run_id(tick) for tick in due(since, until)}
    return len({row[0] for row in admin.execute(_STARTED)} - ids)
