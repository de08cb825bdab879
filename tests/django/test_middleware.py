"""Django's connections around handlers."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from django.db import connections, transaction

import pgflow_starter as pgflow
from pgflow_starter.django.middleware import connections_closed
from pgflow_starter.testing import run_flow
from tests.django.app.flows import note
from tests.django.app.models import Note
from tests.django.conftest import Databases, of
from tests.support.starters import running

ENDED = """
select count(pg_terminate_backend(pid)) from pg_stat_activity
where datname = current_database() and application_name = 'django'
"""


@pgflow.job("note_in_a_loop", base_delay=0)
async def note_in_a_loop(message: Any, ctx: pgflow.TaskContext) -> int:
    """As `note`."""
    await Note.objects.acreate(text=message)
    return ctx.attempt


@pytest.mark.parametrize("job", [note, note_in_a_loop], ids=["plain", "async"])
@pytest.mark.parametrize(
    "kept",
    [
        {"CONN_MAX_AGE": 0},
        {"CONN_MAX_AGE": None},
        {"CONN_HEALTH_CHECKS": True, "OPTIONS": {"application_name": "django", "pool": {"min_size": 2}}},
    ],
    ids=["none kept", "kept for ever", "a pool"],
)
def test_each_job_succeeds_at_once_though_the_server_ends_all_connections_between_them(
    project: str, databases: Databases, kept: dict[str, Any], job: Any
) -> None:
    databases(default=of(project, **{"OPTIONS": {"application_name": "django"}, **kept}))
    with running(project, jobs=[job], middleware=[connections_closed]) as starter, psycopg.connect(project) as admin:
        attempts = []
        for number in range(30):
            attempts.append(starter.client.enqueue(job, f"{number}").wait(30).result)
            admin.execute(ENDED)
    assert attempts == [1] * 30
    assert Note.objects.count() == 30


def test_no_handler_leaves_a_session_on_its_thread(project: str, databases: Databases) -> None:
    databases(default=of(project, CONN_MAX_AGE=None, OPTIONS={"application_name": "django"}))
    with running(project, jobs=[note], middleware=[connections_closed]) as starter, psycopg.connect(project) as admin:
        starter.client.enqueue(note, "one").wait(30)
        assert admin.execute(ENDED).fetchone() == (0,)


def test_the_transaction_of_a_test_around_run_flow_goes_on(project: str) -> None:
    with transaction.atomic():
        run_flow(note, "one", middleware=[connections_closed]).raise_for_status()
        assert Note.objects.count() == 1
        transaction.set_rollback(True)
    assert connections["default"].is_usable()
    assert Note.objects.count() == 0
