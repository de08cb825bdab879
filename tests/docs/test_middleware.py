"""The recipes of the page on middleware, as they stand there, do what the page says."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from importlib import import_module, invalidate_caches
from pathlib import Path
from typing import Any

import pytest
import sentry_sdk
import structlog
from sentry_sdk.envelope import Envelope
from sentry_sdk.integrations.dedupe import DedupeIntegration
from sentry_sdk.integrations.logging import LoggingIntegration
from sentry_sdk.transport import Transport

import pgflow_starter as pgflow
from pgflow_starter.testing import run_flow
from tests.support.pages import DOCS, blocks
from tests.support.programs import ROOT, finished
from tests.support.starters import running
from tests.support.waiting import eventually

Recipe = Callable[[str], Any]


@pytest.fixture
def recipes(tmp_path: Path) -> Path:
    """The folder with the page's modules."""
    for block in blocks(DOCS / "how-to" / "middleware.md"):
        if block.file is not None:
            (tmp_path / block.file).write_text(block.text)
    return tmp_path


@pytest.fixture
def recipe(recipes: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    """One of them, by its name."""
    monkeypatch.syspath_prepend(recipes)
    invalidate_caches()
    return import_module


@pgflow.job("charge", max_attempts=2)
def charge(amount: int, ctx: pgflow.TaskContext) -> int:
    if amount < 0:
        raise ValueError("no such amount")
    if amount == 0 and not seen_zero.is_set():
        seen_zero.set()
        raise pgflow.Snooze(1)
    return amount


seen_zero = threading.Event()


def test_callbacks_hear_of_each_attempt_and_not_of_a_snooze(recipe: Recipe) -> None:
    heard = list[Any]()
    calling = recipe("callbacks").calling(
        lambda ctx: heard.append(("done", ctx.attempt)), lambda ctx, error: heard.append((str(error), ctx.attempt))
    )
    seen_zero.clear()
    for amount in (1, -1, 0):
        run_flow(charge, amount, middleware=[calling])
    assert heard == [("done", 1), ("no such amount", 1), ("no such amount", 2), ("done", 1)]


class Caught(Transport):
    """Keeps what Sentry would send."""

    def __init__(self) -> None:
        super().__init__()
        self.events = list[Any]()

    def capture_envelope(self, envelope: Envelope) -> None:
        self.events.extend(filter(None, [envelope.get_event()]))


@pytest.fixture
def sentry() -> Iterator[Caught]:
    caught = Caught()
    integrations = [LoggingIntegration(), DedupeIntegration()]  # without those by which it changes the whole process
    dsn = "https://key@sentry.invalid/1"
    sentry_sdk.init(dsn, transport=caught, default_integrations=False, integrations=integrations)
    yield caught
    sentry_sdk.get_client().close()
    sentry_sdk.init()


def test_sentry_has_one_event_of_each_attempt_that_failed(database: str, recipe: Recipe, sentry: Caught) -> None:
    seen_zero.clear()
    job = pgflow.job("charge", max_attempts=1)(charge.__pgflow_definition__().steps[0].handler)
    with running(database, jobs=[job], middleware=[recipe("sentry_errors").sentry_errors]) as starter:
        runs = [starter.client.enqueue(job, amount).wait(30) for amount in (1, -1, 0)]
    assert [run.status for run in runs] == ["completed", "failed", "completed"]
    (event,) = sentry.events
    assert event["exception"]["values"][-1]["value"] == "no such amount"
    assert event["tags"] == {"pgflow.flow": "charge", "pgflow.step": "charge"}
    assert event["contexts"]["pgflow"] == {"run": str(runs[1].id), "task": 0, "attempt": 1}


def test_structlog_s_lines_carry_the_task_and_the_thread_s_next_ones_do_not(database: str, recipe: Recipe) -> None:
    lines = structlog.testing.LogCapture()
    logger = structlog.wrap_logger(None, processors=[structlog.contextvars.merge_contextvars, lines])

    @pgflow.job("talk")
    def talk(word: str, ctx: pgflow.TaskContext) -> None:
        logger.info(word)

    with running(database, jobs=[talk], middleware=[recipe("log_context").log_context]) as starter:
        run = starter.client.enqueue(talk, "hello").wait(30)
    (line,) = lines.entries
    assert line == {
        "run": str(run.id),
        "flow": "talk",
        "step": "talk",
        "attempt": 1,
        "event": "hello",
        "log_level": "info",
    }


def test_a_tenant_has_its_number_of_tasks_and_another_one_goes_on(
    database: str, recipe: Recipe, release: threading.Event
) -> None:
    lock, running_now, most = threading.Lock(), dict[str, int](), dict[str, int]()

    @pgflow.job("work")
    def work(message: Any, ctx: pgflow.TaskContext) -> str:
        tenant: str = message["tenant"]
        with lock:
            running_now[tenant] = running_now.get(tenant, 0) + 1
            most[tenant] = max(most.get(tenant, 0), running_now[tenant])
        if tenant == "large":
            release.wait(60)
        with lock:
            running_now[tenant] -= 1
        return f"{tenant}, attempt {ctx.attempt}"

    limit = recipe("tenants").AtMost(2, again=0.1)
    with running(database, jobs=[work], middleware=[limit], max_concurrency=3) as starter:
        large = starter.client.enqueue_many(work, [{"tenant": "large"}] * 4)
        eventually(lambda: running_now.get("large") == 2, 30, "two tasks of the large one")
        # Two of three slots are taken, and what is put off takes the third for a moment only.
        small = starter.client.enqueue_many(work, [{"tenant": "small"}] * 3)
        assert {run.wait(30).result for run in small} == {"small, attempt 1"}
        release.set()
        assert {run.wait(30).result for run in large} == {"large, attempt 1"}
    assert most["large"] == 2


DJANGO = """
import sys
import django
import psycopg
from django.conf import settings
from psycopg.conninfo import conninfo_to_dict

dsn = sys.argv[1]
options = {**conninfo_to_dict(dsn), "application_name": "django"}
each_its_own = {"ENGINE": "django.db.backends.postgresql", "NAME": options.pop("dbname"), "OPTIONS": options}
kept = {**each_its_own, "CONN_MAX_AGE": None, "CONN_HEALTH_CHECKS": True}
pooled = {**each_its_own, "CONN_HEALTH_CHECKS": True, "OPTIONS": {**options, "pool": {"min_size": 1, "max_size": 2}}}
settings.configure(DATABASES={"default": each_its_own, "kept": kept, "pooled": pooled})
django.setup()

from django.db import connections, transaction
from django_connections import django_connections

import pgflow_starter as pgflow

@pgflow.job("count_rows", max_attempts=2, base_delay=0)
def count_rows(aliases, ctx):
    for alias in aliases:
        with transaction.atomic(alias), connections[alias].cursor() as cursor:
            cursor.execute("select count(*) from pg_class")
    return ctx.attempt

settings = {"signal_strategy": "notify", "middleware": [django_connections]}
with psycopg.connect(dsn, autocommit=True) as killer:
    with pgflow.start(dsn, jobs=[count_rows], **settings) as starter:
        attempts, ended = [], []
        for turn in range(30):
            aliases = ["default", "kept", "pooled"][: 3 if turn < 3 else 2]
            attempts.append(starter.client.enqueue(count_rows, aliases).wait(30).result)
            ended.append(
                killer.execute(
                    "select count(pg_terminate_backend(pid, 10000)) from pg_stat_activity"
                    " where application_name = 'django' and datname = current_database()"
                ).fetchone()[0]
            )
connections["pooled"].close_pool()
print(attempts.count(1), min(ended) >= 1)
"""


def test_thirty_of_thirty_django_tasks_succeed_at_once_after_all_its_connections_were_ended(
    database: str, recipes: Path
) -> None:
    done = finished("-c", DJANGO, database, env={"PYTHONPATH": f"{ROOT}{os.pathsep}{recipes}"})
    assert (done.returncode, done.stdout) == (0, "30 True\n"), done.stderr
