"""Handlers that raise, hang, exit or return what is no JSON."""

from __future__ import annotations

import datetime as dt
import logging
import threading
import uuid
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import psycopg
import pytest

import pgflow_starter as pgflow
from tests.support.starters import STRATEGIES, echo_job, opened, running
from tests.support.waiting import eventually


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_handler_that_raises_is_tried_again(database: str, strategy: str) -> None:
    attempts: list[int] = []

    @pgflow.job("flaky", max_attempts=3, base_delay=0)
    def flaky(message: Any, ctx: pgflow.TaskContext) -> str:
        attempts.append(ctx.attempt)
        if ctx.attempt < 3:
            raise RuntimeError(f"attempt {ctx.attempt} \x00 \ud800 fails")
        return "at last"

    with running(database, jobs=[flaky], signal_strategy=strategy) as starter:
        assert starter.client.enqueue(flaky).wait(20).result == "at last"
    assert attempts == [1, 2, 3]


def test_a_retry_under_notify_does_not_wait_for_the_fallback_poll(database: str) -> None:
    @pgflow.job("soon", max_attempts=2, base_delay=1)
    def soon(message: Any, ctx: pgflow.TaskContext) -> int:
        if ctx.attempt == 1:
            raise RuntimeError
        return ctx.attempt

    with running(database, jobs=[soon], signal_strategy="notify", notify_fallback_interval=600) as starter:
        assert starter.client.enqueue(soon).wait(10).result == 2


def test_the_last_attempt_fails_the_run_with_the_error_and_where_it_arose(database: str) -> None:
    @pgflow.job("doomed", max_attempts=1)
    def doomed(message: Any, ctx: pgflow.TaskContext) -> None:
        raise LookupError("nothing \x00 there: " + "x" * 20_000)

    with running(database, jobs=[doomed]) as starter:
        run = starter.client.enqueue(doomed).wait(20)
        assert run.status == "failed"
        assert run.error is not None
        assert len(run.error.encode()) <= 10_000
        assert "in doomed" in run.error


def test_a_permanent_error_fails_the_task_for_good_at_once(database: str) -> None:
    attempts: list[int] = []

    @pgflow.job("hopeless", max_attempts=5, base_delay=0)
    def hopeless(message: Any, ctx: pgflow.TaskContext) -> None:
        attempts.append(ctx.attempt)
        raise pgflow.PermanentError("no such customer")

    with running(database, jobs=[hopeless]) as starter:
        run = starter.client.enqueue(hopeless).wait(20)
        assert run.status == "failed"
        assert run.error is not None
        assert "no such customer" in run.error
    assert attempts == [1]


def test_a_permanent_error_counts_in_a_group_or_as_a_cause_and_the_run_says_all_of_it(database: str) -> None:
    attempts: list[Any] = []

    @pgflow.job("hopeless", max_attempts=3, base_delay=0)
    def hopeless(message: Any, ctx: pgflow.TaskContext) -> None:
        attempts.append(message)
        if message == "group":
            raise ExceptionGroup("two went wrong", [OSError("disk"), pgflow.PermanentError("no such customer")])
        raise RuntimeError("two went wrong: disk") from pgflow.PermanentError("no such customer")

    with running(database, jobs=[hopeless]) as starter:
        for run in starter.client.enqueue_many(hopeless, ["group", "cause"]):
            error = str(run.wait(20).error)
            assert "two went wrong" in error.splitlines()[0]
            assert "disk" in error
            assert "PermanentError: no such customer" in error
    assert sorted(attempts) == ["cause", "group"]


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_a_handler_that_exits_ends_its_task_and_nothing_else(database: str, error: type[BaseException]) -> None:
    @pgflow.job("exits", max_attempts=1)
    def exits(message: Any, ctx: pgflow.TaskContext) -> None:
        raise error

    echo = echo_job()
    with running(database, jobs=[exits, echo]) as starter:
        assert starter.client.enqueue(exits).wait(20).status == "failed"
        assert starter.client.enqueue(echo, 1).wait(20).result == 1
        assert all(child.restarts == 0 for child in starter.which_children())


def _itself() -> list[Any]:
    ring: list[Any] = []
    ring.append(ring)
    return ring


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"a": [1, float("nan")]}, r"output['a'][1] is nan"),
        (b"bytes", "output is a bytes"),
        ({"s": {1, 2}}, "output['s'] is a set"),
        ({1: 2}, "string keys"),
        (_itself(), "contains itself"),
        ("a\x00b", "NUL"),
        (10**400, None),
    ],
)
def test_an_output_that_is_no_json_fails_the_task_and_names_the_part(
    database: str, value: Any, words: str | None
) -> None:
    @pgflow.job("odd", max_attempts=1)
    def odd(message: Any, ctx: pgflow.TaskContext) -> Any:
        return value

    with running(database, jobs=[odd]) as starter:
        run = starter.client.enqueue(odd).wait(20)
        if words is None:
            assert run.result == value
        else:
            assert run.status == "failed"
            assert run.error is not None
            assert words in run.error


def test_dataclasses_dates_uuids_decimals_and_tuples_are_stored_as_json(database: str) -> None:
    @dataclass
    class Invoice:
        id: uuid.UUID
        due: dt.date
        sum: Decimal
        lines: tuple[int, ...]

    invoice = Invoice(uuid.UUID(int=7), dt.date(2026, 11, 22), Decimal("9.90"), (1, 2))

    @pgflow.job("bill")
    def bill(message: Any, ctx: pgflow.TaskContext) -> Invoice:
        return invoice

    with running(database, jobs=[bill]) as starter:
        assert starter.client.enqueue(bill).wait(20).result == {
            "id": str(uuid.UUID(int=7)),
            "due": "2026-11-22",
            "sum": "9.90",
            "lines": [1, 2],
        }


def test_a_task_that_takes_too_long_fails_its_slot_is_free_and_its_late_result_is_ignored(
    database: str, release: threading.Event
) -> None:
    ended = threading.Event()
    contexts: list[pgflow.TaskContext] = []

    @pgflow.job("endless", max_attempts=1, timeout=1, max_concurrency=1)
    def endless(message: Any, ctx: pgflow.TaskContext) -> str:
        contexts.append(ctx)
        if message == "hang":
            release.wait()
            ended.set()
        return "late"

    with opened(database, jobs=[endless]) as (starter, runtime):
        hung = starter.client.enqueue(endless, "hang")
        quick = starter.client.enqueue(endless, "quick")
        failed = hung.wait(20)
        assert failed.status == "failed"
        assert failed.error is not None
        assert "timeout of 1 s" in failed.error
        assert contexts[0].cancelled.is_set()
        assert quick.wait(20).result == "late"
        flights = runtime.parts.workers.cells()[0].flights
        assert flights.abandoned == 1
        release.set()
        assert ended.wait(10)
        eventually(lambda: flights.abandoned == 0)
        assert hung.refresh() == failed


def test_a_stopped_workers_stalled_task_gets_its_next_attempt_elsewhere(
    database: str, release: threading.Event
) -> None:
    """As if its process had been killed: its heartbeat is made old by hand."""
    entered = threading.Event()
    attempts: list[int] = []

    @pgflow.job("stalls", timeout=600, max_attempts=2)
    def stalls(message: Any, ctx: pgflow.TaskContext) -> str:
        attempts.append(ctx.attempt)
        if len(attempts) == 1:
            entered.set()
            release.wait()
        return f"attempt {ctx.attempt}"

    quick = {"heartbeat_interval": 0.1, "stale_threshold": 0.3, "recovery_interval": 0.1}
    with running(database, jobs=[stalls], heartbeat_interval=3600, stale_threshold=20_000) as dead:
        run = dead.client.enqueue(stalls)
        assert entered.wait(10)
        with psycopg.connect(database, autocommit=True) as admin:
            admin.execute("update pgflow.workers set last_heartbeat_at = now() - interval '1 day'")
        with running(database, jobs=[stalls], **quick) as alive:
            assert alive.client.run(run.id).wait(20).result == "attempt 2"
        release.set()


def test_a_task_whose_workers_all_died_ends_as_failed_and_is_in_the_log(
    database: str, caplog: pytest.LogCaptureFixture, release: threading.Event
) -> None:
    entered = threading.Event()

    @pgflow.job("poison", timeout=600, max_attempts=1)
    def poison(message: Any, ctx: pgflow.TaskContext) -> None:
        entered.set()
        release.wait()

    quick = {"heartbeat_interval": 0.1, "stale_threshold": 0.3, "recovery_interval": 0.1}
    with running(database, jobs=[poison], heartbeat_interval=3600, stale_threshold=20_000) as dead:
        run = dead.client.enqueue(poison)
        assert entered.wait(10)
        with psycopg.connect(database, autocommit=True) as admin:
            admin.execute("update pgflow.workers set last_heartbeat_at = now() - interval '1 day'")
        with running(database, jobs=[poison], **quick) as alive:
            failed = alive.client.run(run.id).wait(20)
            assert failed.status == "failed"
            assert failed.error is not None
            assert "worker" in failed.error
            (record,) = eventually(lambda: [r for r in caplog.records if r.name == "pgflow_starter.tasks"])
        release.set()
    assert record.levelno == logging.ERROR
    assert record.getMessage().startswith(f"poison: step poison of run {run.id} failed for good: the worker")
    assert record.__dict__["pgflow_step"] == "poison"


def test_many_tasks_of_one_run_may_fail_at_once_without_a_deadlock(database: str) -> None:
    flow = pgflow.Flow("half", max_attempts=2, base_delay=0)

    @flow.map()
    def each(n: int, ctx: pgflow.TaskContext) -> int:
        if n % 2 and ctx.attempt == 1:
            raise RuntimeError("odd")
        return n

    with running(database, flows=[flow], signal_strategy="notify") as starter:
        assert starter.client.start_flow(flow, list(range(100))).wait(30).result == list(range(100))
