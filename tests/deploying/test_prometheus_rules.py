"""The alert rules: each names what the exporter prints, is silent while all is well, and speaks when it should."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
import yaml

import pgflow_starter as pgflow
from pgflow_starter.telemetry.prometheus import Exposition
from pgflow_starter.worker import queue_watch, tally
from tests.support.deployed import FOLDER
from tests.support.exposition import Sample, exposing, printed
from tests.support.promql import Query
from tests.support.starters import echo_job, running
from tests.support.waiting import eventually

WAIT = 30.0
GROUP: dict[str, Any] = yaml.safe_load((FOLDER / "prometheus-rules.yaml").read_text(encoding="utf-8"))["groups"][0]
RULES: dict[str, dict[str, Any]] = {rule["alert"]: rule for rule in GROUP["rules"]}
LOADED = {"PgflowQueueLong", "PgflowRetries", "PgflowPoolShort", "PgflowTicksMissed"}
"""That take more than a test has."""


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is read now and then is read at once."""
    monkeypatch.setattr(queue_watch, "INTERVAL", 0.1)
    monkeypatch.setattr(queue_watch, "PAUSE", 0.0)
    monkeypatch.setattr(tally, "INTERVAL", 0.1)


def failing_job(max_attempts: int) -> pgflow.Job:
    @pgflow.job("bad", max_attempts=max_attempts, base_delay=0)
    def bad(message: Any, ctx: pgflow.TaskContext) -> None:
        raise ValueError("wrong")

    return bad


def missed(database: str, job: pgflow.Job) -> pgflow.Schedule:
    """A schedule whose last tick was half an hour ago, when the job was there already; it is caught up."""
    with running(database, jobs=[job]) as starter:
        starter.await_ready(WAIT)
    with psycopg.connect(database) as admin:
        admin.execute("update pgflow.flows set created_at = now() - interval '1 day'")
    at = datetime.now(UTC) - timedelta(minutes=30)  # noqa: TID251 - as cron has it
    return pgflow.Schedule(f"{at.minute} {at.hour} * * *", job, name="nightly", catch_up="last")


@contextmanager
def exposed(conninfo: str, **modules: Any) -> Iterator[tuple[pgflow.Starter, Exposition]]:
    """A starter whose metrics are printed."""
    with exposing() as exposition, running(conninfo, meter_provider=exposition.provider, **modules) as starter:
        yield starter, exposition


def firing(before: list[Sample], now: list[Sample]) -> set[str]:
    """The alerts whose condition holds."""
    return {name for name, rule in RULES.items() if Query(rule["expr"], before, now).value}


def await_firing(exposition: Exposition, before: list[Sample], wanted: set[str]) -> None:
    eventually(lambda: wanted <= firing(before, printed(exposition)), WAIT, f"{wanted} of the alerts")


def test_all_that_the_rules_name_is_printed(database: str) -> None:
    """Each selector selects something, and each label by which something is grouped is there."""
    good, bad = echo_job(), failing_job(max_attempts=2)
    with exposed(database, jobs=[good, bad], flows=[object()], schedules=[missed(database, good)]) as (
        starter,
        exposition,
    ):
        starter.client.enqueue(bad, 1).wait(WAIT)
        starter.client.enqueue(good, 1).wait(WAIT)
        queries = [Query(rule["expr"]) for rule in RULES.values()]

        def unprinted() -> list[object]:
            there = printed(exposition)
            labels = {sample.name: set(sample.labels) for sample in there}
            return [s for q in queries for s in q.selectors if not s.of(there)] + [
                (s.name, by) for q in queries for s, by in q.grouped if not by <= labels.get(s.name, set())
            ]

        eventually(lambda: unprinted() == [], WAIT, "that all is printed")


def test_none_speaks_while_all_is_well(database: str) -> None:
    job = echo_job()
    with exposed(database, jobs=[job]) as (starter, exposition):
        starter.await_ready(WAIT)
        before = printed(exposition)
        starter.client.enqueue(job, 1).wait(WAIT)
        eventually(lambda: Query("pgflow_run_ended_total > 0", (), printed(exposition)).value)
        assert firing(before, printed(exposition)) == set()


def test_a_database_that_is_away_and_nobody_there() -> None:
    with exposed("host=127.0.0.1 port=1", jobs=[echo_job()]) as (_, exposition):
        await_firing(exposition, [], {"PgflowDatabaseAway", "PgflowNotReady"})
    with exposing() as exposition:
        assert firing([], printed(exposition)) == {"PgflowGone"}


def test_a_worker_in_trouble_a_module_that_failed_and_a_fast_lane_that_is_off(database: str) -> None:
    modules: dict[str, Any] = {"jobs": [echo_job()], "flows": [object()], "fast_lane": "off"}
    with exposed(database, **modules) as (starter, exposition), psycopg.connect(database) as admin:
        starter.await_ready(WAIT)
        await_firing(exposition, [], {"PgflowModuleFailed", "PgflowFastLaneOff"})
        assert "PgflowWorkerInTrouble" not in firing([], printed(exposition))
        admin.execute("alter table pgmq.q_echo rename to q_gone")
        admin.commit()
        await_firing(exposition, [], {"PgflowWorkerInTrouble"})


def test_a_queue_that_moves_is_behind_and_is_stuck_when_no_task_ends_any_more(
    database: str, release: threading.Event
) -> None:
    @pgflow.job("slow", max_concurrency=1)
    def slow(message: int, ctx: pgflow.TaskContext) -> None:
        if message:
            release.wait(WAIT)

    with exposed(database, jobs=[slow], batch_size=1, shutdown_timeout=0.0) as (starter, exposition):
        starter.client.enqueue_many(slow, range(10))
        with psycopg.connect(database) as admin:
            admin.execute("update pgmq.q_slow set vt = now() - interval '400 s' where vt <= now()")
        await_firing(exposition, [], {"PgflowQueueBehind"})
        one_ended = printed(exposition)
        assert "PgflowQueueStuck" not in firing([], one_ended)
        await_firing(exposition, one_ended, {"PgflowQueueStuck"})
        assert "PgflowQueueBehind" not in firing(one_ended, printed(exposition))
        release.set()


def test_a_step_that_fails_and_its_runs(database: str) -> None:
    job = failing_job(max_attempts=1)
    with exposed(database, jobs=[job]) as (starter, exposition):
        starter.await_ready(WAIT)
        before = printed(exposition)
        starter.client.enqueue(job, 1).wait(WAIT)
        await_firing(exposition, before, {"PgflowStepFails", "PgflowRunsFail"})


def test_a_schedule_that_is_late(database: str) -> None:
    job = echo_job()
    with exposed(database, jobs=[job], schedules=[missed(database, job)]) as (_, exposition):
        await_firing(exposition, [], {"PgflowScheduleLate"})


def test_a_schedule_that_cannot_start_its_runs(database: str) -> None:
    nobodys = pgflow.Schedule("* * * * * *", "nobodys")
    with exposed(database, jobs=[echo_job()], schedules=[nobodys]) as (_, exposition):
        await_firing(exposition, [], {"PgflowScheduleFails"})


def test_each_rule_says_what_to_do_and_each_that_can_be_is_heard_above() -> None:
    for rule in RULES.values():
        assert set(rule["annotations"]) == {"summary", "action"}
        assert rule["labels"]["severity"] in ("page", "ticket")
    heard = {
        "PgflowGone", "PgflowDatabaseAway", "PgflowWorkerInTrouble", "PgflowModuleFailed", "PgflowNotReady",
        "PgflowQueueStuck", "PgflowQueueBehind", "PgflowStepFails", "PgflowRunsFail", "PgflowScheduleLate",
        "PgflowScheduleFails", "PgflowFastLaneOff",
    }  # fmt: skip
    assert set(RULES) == heard | LOADED


def test_rules_that_take_load_speak_of_what_is_printed_under_it() -> None:
    where = {"messaging_destination_name": "echo", "pgflow_step": "echo"}
    waiting = {"messaging_destination_name": "echo", "pgflow_queue_state": "waiting"}
    now = [
        Sample("pgflow_starter_module_count", {}, 1),
        Sample("pgflow_queue_depth", waiting, 10_001),
        Sample("pgflow_task_retries_total", where, 2),
        Sample("db_client_connection_pending_requests", {}, 1),
        Sample("pgflow_schedule_missed", {"pgflow_schedule_name": "nightly"}, 3),
    ]
    assert firing([], now) == LOADED


@pytest.mark.parametrize("wrong", ["a >", "sum (a) > 1", "a > 1 b", "a ~ 1", "rate(a) > 1", "a and b"])
def test_what_is_no_query_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"missing|what is"):
        Query(wrong)
