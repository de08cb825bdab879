"""Upgrades that are refused, with the reason, and change nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

import pgflow_starter as pgflow
from pgflow_starter.core.modules import definition_of
from pgflow_starter.errors import DatabaseError, NotInstalledError, SetupError
from pgflow_starter.postgres.setup import upgrade as upgrading
from pgflow_starter.postgres.setup.migrations import OLDEST
from pgflow_starter.postgres.setup.syncing import sync
from pgflow_starter.postgres.setup.upgrade import upgrade
from pgflow_starter.postgres.stores.flows import compile_flow
from tests.cores.stand_in import Admin
from tests.postgres.install_rig import run, value
from tests.support.starters import echo_job, running
from tests.upgrading.rig import fillers, folder_to, stand_in_name

COMMENT = "select obj_description('pgflow'::regnamespace, 'pg_namespace')"
PRIVATE_QUEUES = "-- 0.17 for the tests"


@pytest.fixture(autouse=True)
def unchanged(old: str) -> Iterator[None]:
    """What is refused leaves the core as it was."""
    yield
    assert OLDEST in str(value(old, COMMENT)) or value(old, COMMENT) is None


@pytest.fixture
def private(tmp_path: Path) -> Path:
    """A folder whose last migration is that of the private queues."""
    folder = folder_to(tmp_path / "private", "0.14", prefix="20250101000000")
    for stand_in in folder.glob("*step_conditions*"):
        stand_in.write_text("-- nothing")
    for name, text in fillers([stand_in_name("0.14"), stand_in_name("0.17")]).items():
        if name > stand_in_name("0.14"):
            (folder / f"20250102000000_{name}.sql").write_text(text)
    (folder / f"20250102000000_{stand_in_name('0.17')}.sql").write_text(PRIVATE_QUEUES)
    return folder


def refused(conninfo: str, folder: Path, match: str) -> None:
    """So it is, by a dry run as well."""
    for dry_run in (True, False):
        with pytest.raises((SetupError, DatabaseError), match=match):
            upgrade(conninfo, core_dir=folder, dry_run=dry_run)


def test_an_empty_database_and_half_a_core_have_nothing_to_upgrade(empty_database: str, newer: Path) -> None:
    refused(empty_database, newer, "the pgflow core is not installed: run `pgflow-starter db install`")
    run(empty_database, "create schema pgflow")
    refused(empty_database, newer, "schema pgflow exists without create_flow")


def test_no_core_is_taken_back(old: str, newer: Path, tmp_path: Path) -> None:
    copy = make_conninfo(old)
    folder = folder_to(tmp_path / "older", "0.14", prefix="20250101000000")
    for stand_in in folder.glob("*step_conditions*"):
        stand_in.unlink()
    run(copy, "comment on schema pgflow is 'pgflow-starter: migrated to 29990101000000_pgflow_later'")
    refused(
        old,
        folder,
        r"has had 29990101000000_pgflow_later \(by the comment .*goes to .* only: no core is ever taken back",
    )
    run(copy, "comment on schema pgflow is 'pgflow-starter: migrated to 20251105000000_pgflow_other'")
    refused(old, newer, "20251105000000_pgflow_other .*which the pgflow core of folder .* does not have")
    run(copy, f"comment on schema pgflow is 'pgflow-starter: migrated to {OLDEST}'")


def test_the_private_queues_come_to_no_worker_that_is_alive(old: str, private: Path, admin: Admin) -> None:
    admin.execute(
        "insert into pgflow.workers (worker_id, queue_name, function_name, last_heartbeat_at)"
        " select gen_random_uuid(), 'shop', name, now() - interval '200 s'"
        " from unnest(array[E'shop-\\x1b[1mworker', E'shop-\\x1b[1mworker', 'pgflow_starter:shop']) name"
    )
    shop = r"2 of 'shop-\[1mworker' on queue 'shop', heard 2\d\d s ago$"
    with running(old, jobs=[echo_job()]) as starter:
        starter.await_ready(20)
        refused(old, private, rf"Alive are 1 of 'pgflow_starter:echo' on queue 'echo', heard \d+ s ago; {shop}")
    refused(old, private, rf"Alive are {shop}")
    admin.execute("delete from pgflow.workers where function_name like 'shop-%'")
    told: list[str] = []
    assert upgrade(old, core_dir=private, dry_run=True, progress=told.append) == ()
    assert told[-1] == f"would apply {stand_in_name('0.17')}"


def test_of_very_many_workers_some_are_named(old: str, private: Path, admin: Admin) -> None:
    admin.execute(
        "insert into pgflow.workers (worker_id, queue_name, function_name) "
        "select gen_random_uuid(), 'shop', 'worker_' || n from generate_series(1, 9) n"
    )
    refused(old, private, r"1 of 'worker_4' on queue 'shop', heard \d+ s ago; and those of 5 functions more$")


def test_who_does_not_own_the_core_is_told_who_does(old: str, newer: Path, admin: Admin) -> None:
    name = f"plain_{admin.info.dbname}"
    admin.execute(f"create role {name} login".encode())
    try:
        plain = make_conninfo(old, user=name, password="hush-hush")
        reason = "nothing was changed: this role is not the owner of what is in schema pgflow, role 'postgres' is"
        refused(plain, newer, reason)
    finally:
        admin.execute(f"drop owned by {name} cascade; drop role {name}".encode())


def test_a_server_that_only_reads_is_told(old: str, newer: Path, admin: Admin) -> None:
    reading = make_conninfo(old, options="-c default_transaction_read_only=on")
    refused(
        reading,
        newer,
        "nothing was changed: this server, or this role's sessions, are read-only: connect to the primary",
    )


def test_a_strangers_schema_is_told(old: str, newer: Path, admin: Admin) -> None:
    stranger = f"stranger_{admin.info.dbname}"
    admin.execute(f"create role {stranger}; alter schema realtime owner to {stranger}".encode())
    try:
        refused(old, newer, f"nothing was changed: schema realtime belongs to role '{stranger}'")
    finally:
        admin.execute(f"alter schema realtime owner to postgres; drop role {stranger}".encode())


def test_a_version_and_a_folder_are_one_too_many(old: str, newer: Path) -> None:
    with pytest.raises(SetupError, match="not both"):
        upgrade(old, core_version="0.8.1", core_dir=newer)


def test_tables_that_somebody_keeps_in_use_are_given_up_in_time(
    old: str, newer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upgrading, "LOCKED_WITHIN", 0.0)
    with psycopg.connect(old) as holder:
        holder.execute("select from pgflow.runs")
        with pytest.raises(
            DatabaseError, match="nothing was changed: somebody has had the core's tables in use"
        ) as caught:
            upgrade(old, core_dir=newer)
    assert caught.value.sqlstate == "55P03"


@pytest.mark.parametrize(
    "statement", ["commit", "BEGIN;", "create index concurrently on pgflow.runs (run_id)", "vacuum pgflow.runs"]
)
def test_a_migration_that_would_not_be_all_or_nothing_is_refused(
    old: str, newer: Path, tmp_path: Path, statement: str
) -> None:
    folder = folder_to(tmp_path / "own", "0.14", prefix="20250101000000")
    (folder / "29990101000000_29990101000000_pgflow_own.sql").write_text(f"select 1; -- first\n{statement}")
    refused(old, folder, "29990101000000_pgflow_own cannot be applied all or nothing: it has the statement")


def test_conditions_that_the_core_does_not_know_take_an_upgrade_and_no_new_slug(old: str, admin: Admin) -> None:
    plain, conditional = pgflow.Flow("shop"), pgflow.Flow("shop")
    plain.step(slug="pay")(lambda given, ctx: given)
    conditional.step(slug="pay", if_={"paid": False})(lambda given, ctx: given)
    compile_flow(admin, definition_of(plain))
    with pytest.raises(NotInstalledError, match=r"has none: they came with core 0\.14\. Upgrade it: run"):
        sync(old, definition_of(conditional))
