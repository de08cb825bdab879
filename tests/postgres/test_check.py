"""Telling what a database has."""

from __future__ import annotations

import pytest
from psycopg.conninfo import make_conninfo

from pgflow_starter.errors import DatabaseError, SetupError
from pgflow_starter.postgres.setup.install import check, install
from tests.postgres.install_rig import run


def test_an_empty_database_is_told_what_it_lacks_and_how_to_get_it(empty_database: str) -> None:
    inventory = check(empty_database)
    assert (inventory.pgmq, inventory.pgflow) == ("missing", "missing")
    assert not inventory.ok
    assert inventory.missing == (
        "pgmq is not installed: run `pgflow-starter db install`",
        "the pgflow core is not installed: run `pgflow-starter db install`",
    )


def test_features_are_seen_as_they_come_and_go(database: str, pg_version: int) -> None:
    inventory = check(database)
    assert inventory.server_version.startswith(f"{pg_version}.")
    assert (inventory.pgmq, inventory.pgmq_version, inventory.pgflow) == ("sql", None, "present")
    assert "pgmq.enable_notify_insert" in inventory.features
    assert "pgflow.requeue_stalled_tasks" not in inventory.features
    run(
        database,
        "create function pgflow.requeue_stalled_tasks() returns int language sql as 'select 0'",
        "alter table pgflow.workers add column stopped_at timestamptz",
        "drop function pgmq.enable_notify_insert(text, integer)",
    )
    inventory = check(database)
    assert {"pgflow.requeue_stalled_tasks", "pgflow.workers.stopped_at"} <= set(inventory.features)
    assert inventory.ok
    assert "'notify' needs a newer pgmq" in inventory.notes[0]


@pytest.mark.parametrize(
    ("change", "core"),
    [
        ("select", "0.8.1 or 0.9"),
        ("create function pgflow.mark_worker_stopped(uuid) returns void language sql as ''", "0.10 or 0.11"),
        ("alter type pgflow.step_task_record add attribute flow_input jsonb", "0.12 or 0.13"),
        ("alter table pgflow.steps add column when_unmet text", "0.14 to 0.15.0"),
        ("alter table pgflow.step_tasks add check (status <> 'cancelled')", "0.15.1 to 0.16"),
        ("alter table pgflow.step_tasks add column queue_name text", "0.17 or later"),
    ],
)
def test_the_core_s_version_is_concluded_from_what_there_is(database: str, change: str, core: str) -> None:
    run(database, change)
    assert check(database).core == core


def test_a_core_that_registration_refuses_is_refused_by_a_check(database: str) -> None:
    run(database, "drop function pgflow.add_step", "create function pgflow.add_step() returns int return 1")
    problem = check(database).pgflow_problem
    assert problem is not None
    assert "is older than 0.8.1" in problem


def test_cores_and_pgmqs_that_are_too_old_are_told_apart_from_missing_ones(database: str) -> None:
    run(database, "drop function pgflow.start_tasks", "drop function pgmq.archive(text, bigint)")
    run(database, "drop function pgmq.archive(text, bigint[])")
    pgmq, pgflow = check(database).missing
    assert pgmq.startswith("pgmq is incomplete, it has no archive")
    assert pgflow.startswith("the pgflow core is too old, it has no start_tasks")


@pytest.mark.parametrize(
    "conninfo",
    [
        "garbage s3cret",
        "postgresql://me:%zzs3cret@127.0.0.1:1/db",
        "postgresql://me:s3cret@127.0.0.1:1/db",
        "postgresql://me:a@s3cret@127.0.0.1:1/db",
        "postgresql://me:a/s3cret@127.0.0.1:1/db",
        "postgresql://me:a#s3cret@127.0.0.1:1/db",
        "host=127.0.0.1 port=1 password='s3cret",
        "host=127.0.0.1 port=1 password=s3cret",
        "host=127.0.0.1 port=s3 password=s3",
    ],
)
def test_a_bad_connection_string_is_refused_without_its_password(conninfo: str) -> None:
    for attempt in (check, install):
        with pytest.raises((SetupError, DatabaseError)) as caught:
            attempt(conninfo)
        assert "s3" not in str(caught.value)
        assert caught.value.__cause__ is None
        assert len(str(caught.value)) > 20


def test_a_database_that_does_not_exist_is_named(server_conninfo_of_nothing: str) -> None:
    with pytest.raises(DatabaseError, match='database "no_such_database" does not exist'):
        check(server_conninfo_of_nothing)


@pytest.fixture
def server_conninfo_of_nothing(empty_database: str) -> str:
    return make_conninfo(empty_database, dbname="no_such_database")
