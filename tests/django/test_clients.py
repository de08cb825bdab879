"""Runs that are started and read on Django's own connection."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from django.core.exceptions import ImproperlyConfigured, SynchronousOnlyOperation
from django.db import close_old_connections, connections, transaction
from django.test import override_settings

import pgflow_starter as pgflow
from pgflow_starter.django import client
from pgflow_starter.django.middleware import connections_closed
from tests.django.app.flows import note
from tests.django.app.models import Note
from tests.django.conftest import Databases, of
from tests.support.starters import echo_job, running
from tests.support.waiting import eventually

OTHERS = "select pid from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"


def rows(conninfo: str, query: str) -> list[Any]:
    with psycopg.connect(conninfo, autocommit=True) as connection:
        return [row[0] for row in connection.execute(query)]


def test_within_atomic_a_run_is_a_part_of_the_transaction(project: str) -> None:
    with transaction.atomic():
        Note.objects.create(text="first")
        lost = client().enqueue(note, "from the worker")
        assert client().run(lost.id).status == "started"
        assert rows(project, "select run_id from pgflow.runs") == []
        transaction.set_rollback(True)
    with pytest.raises(pgflow.RunNotFoundError):
        lost.refresh()
    with transaction.atomic():
        Note.objects.create(text="second")
        with transaction.atomic():
            client().enqueue(note, "in a savepoint that is rolled back")
            transaction.set_rollback(True)
        run = client().enqueue(note, "from the worker")
    assert rows(project, "select run_id from pgflow.runs") == [run.id]
    with running(project, jobs=[note], middleware=[connections_closed]):
        assert run.wait(30).result == 1
    assert list(Note.objects.values_list("text", flat=True)) == ["second", "from the worker"]


def test_in_autocommit_mode_a_run_is_there_at_once_and_on_commit_when_all_else_is(project: str) -> None:
    run = client().start_flow(note, "at once")
    assert rows(project, "select run_id from pgflow.runs") == [run.id]
    with transaction.atomic():
        transaction.on_commit(lambda: client().enqueue_many(note, ["later", "later still"]))
        assert len(client().runs()) == 1
    assert len(rows(project, "select run_id from pgflow.runs")) == 3


def test_using_is_another_alias_and_the_setting_names_the_first(project: str, other: str, databases: Databases) -> None:
    databases(default=of(project), other=of(other))
    with transaction.atomic(using="other"):
        run = client(using="other").enqueue(note, 1)
        assert rows(other, "select run_id from pgflow.runs") == []
    with override_settings(PGFLOW={"DATABASE": "other"}):
        assert client().run(run.id) == run
    assert client().runs() == ()
    with pytest.raises(ImproperlyConfigured, match="'no' is none of the aliases in DATABASES: 'default', 'other'"):
        client(using="no")


def test_it_keeps_no_session_beside_django_s(project: str) -> None:
    job = echo_job()  # which is not in the database yet
    run = client().enqueue(job, 1)
    with running(project, jobs=[job]) as starter:
        assert run.wait(30).result == 1
        starter.await_ready(30)
    client().cancel(client().rerun(run.id).id)
    client().delete(run.id)
    assert client().prune(timedelta(days=1)) == 0
    client().delete_flow(job)
    with connections["default"].cursor() as cursor:
        eventually(lambda: cursor.execute(OTHERS).fetchall() == [])


def test_django_s_own_looks_come_first(project: str) -> None:
    with transaction.atomic():
        transaction.set_rollback(True)
        with pytest.raises(transaction.TransactionManagementError):
            client().enqueue(note, 1)

    async def in_a_loop() -> None:
        client().enqueue(note, 1)

    with pytest.raises(SynchronousOnlyOperation):
        asyncio.run(in_a_loop())
    assert client().runs() == ()


def test_a_connection_that_the_server_has_ended_is_replaced_as_django_replaces_its_own(
    project: str, databases: Databases
) -> None:
    databases(default=of(project, CONN_MAX_AGE=None))
    client().enqueue(note, 1)
    rows(project, f"select pg_terminate_backend(pid) from ({OTHERS}) others")
    with pytest.raises(pgflow.DatabaseError):
        client().runs()
    close_old_connections()  # as at the end of a request
    assert len(client().runs()) == 1
