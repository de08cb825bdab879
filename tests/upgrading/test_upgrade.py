"""Upgrading: what is applied, what is said, and what the database knows of it afterwards."""

from __future__ import annotations

import re
from pathlib import Path

import psycopg
import pytest

from pgflow_starter.errors import DatabaseError, SetupError
from pgflow_starter.postgres.setup.install import check, install
from pgflow_starter.postgres.setup.migrations import OLDEST, from_folder
from pgflow_starter.postgres.setup.upgrade import upgrade
from tests.cores.stand_in import Admin
from tests.postgres.install_rig import value
from tests.support.starters import echo_job, running
from tests.upgrading.rig import ends, fill

COMMENT = "select obj_description('pgflow'::regnamespace, 'pg_namespace')"
PATHLESS = """
select p.oid::regprocedure::text from pg_proc p where pronamespace = 'pgflow'::regnamespace and prokind = 'f'
and (not coalesce(proconfig::text like '%search_path=%', false)
     or prosecdef and (proacl is null or exists (select from aclexplode(proacl) where grantee = 0)))
"""


def newer_names(folder: Path) -> tuple[str, ...]:
    return tuple(m.name for m in from_folder(folder).migrations if m.name > OLDEST)


def test_what_the_database_has_not_had_is_applied_and_told(old: str, newer: Path) -> None:
    told: list[str] = []
    names = upgrade(old, core_dir=newer, progress=told.append)
    assert names == newer_names(newer) != ()
    assert told[0] == f"this database has had pgflow's migrations up to {OLDEST}, by the comment on schema pgflow"
    assert [line for line in told if line.startswith("applied")] == [f"applied {name}" for name in names]
    inventory = check(old)
    assert inventory.ok
    assert inventory.last_migration == names[-1]
    assert inventory.core not in (None, "0.8.1 or 0.9")


def test_a_second_upgrade_has_nothing_to_do(old: str, newer: Path) -> None:
    last = upgrade(old, core_dir=newer)[-1]
    before = value(old, "select max(oid) from pg_proc")
    told: list[str] = []
    assert upgrade(old, core_dir=newer, progress=told.append) == ()
    assert last in told[0]
    assert told[1].endswith("nothing was changed")
    assert value(old, "select max(oid) from pg_proc") == before


def test_a_dry_run_says_the_same_and_changes_nothing(old: str, newer: Path) -> None:
    would: list[str] = []
    before = value(old, "select max(oid) from pg_proc"), value(old, COMMENT)
    assert upgrade(old, core_dir=newer, dry_run=True, progress=would.append) == ()
    assert (value(old, "select max(oid) from pg_proc"), value(old, COMMENT)) == before
    did: list[str] = []
    upgrade(old, core_dir=newer, progress=did.append)
    assert [re.sub("^would apply", "applied", line) for line in would] == did[: len(would)]


def test_every_run_ends_as_it_would_have(old: str, newer: Path) -> None:
    fill(old, 60)
    expected = ends_of_a_copy(old)
    upgrade(old, core_dir=newer)
    assert ends(old) == expected
    assert {end[0] for end in expected.values()} == {"completed", "failed"}


def ends_of_a_copy(conninfo: str) -> dict[object, tuple[object, ...]]:
    name = value(conninfo, "select current_database()")
    copy = f"{conninfo.removesuffix(str(name))}{name}_copy"
    run_apart(conninfo, f"create database {name}_copy template {name}")
    try:
        return ends(copy)
    finally:
        run_apart(conninfo, f"drop database {name}_copy with (force)")


def run_apart(conninfo: str, statement: str) -> None:
    with psycopg.connect(f"{conninfo.partition('dbname=')[0]}dbname=postgres", autocommit=True) as connection:
        connection.execute(statement.encode())


def test_what_db_install_made_has_its_functions_hardened_again(old: str, newer: Path, admin: Admin) -> None:
    upgrade(old, core_dir=newer)
    assert admin.execute(PATHLESS.encode()).fetchall() == []


def test_what_others_have_laid_down_stays_as_their_migrations_say(old: str, newer: Path, admin: Admin) -> None:
    admin.execute("alter function pgflow.start_flow(text, jsonb, uuid) reset search_path")
    upgrade(old, core_dir=newer)
    assert admin.execute(PATHLESS.encode()).fetchall() != []


def test_a_comment_of_others_stays_beside_ours(old: str, newer: Path, admin: Admin) -> None:
    ours = value(old, COMMENT)
    admin.execute(f"comment on schema pgflow is 'Ask the platform team.\n{ours}'".encode())
    last = upgrade(old, core_dir=newer)[-1]
    lines = str(value(old, COMMENT)).splitlines()
    assert lines[0] == "Ask the platform team."
    assert lines[1].startswith(f"pgflow-starter: migrated to {last} [")
    assert len(lines) == 2


def test_an_installation_without_a_note_is_known_by_what_there_is(old: str, newer: Path, admin: Admin) -> None:
    admin.execute("comment on schema pgflow is null")
    assert check(old).last_migration == OLDEST
    told: list[str] = []
    upgrade(old, core_dir=newer, progress=told.append)
    assert told[0].endswith(f"up to {OLDEST}, by its functions and columns")


@pytest.mark.parametrize("comment", [None, "0.14", "whatever"])
def test_a_core_that_nothing_tells_of_is_refused_until_somebody_says_what_it_is(
    old: str, newer: Path, admin: Admin, comment: str | None
) -> None:
    admin.execute("create function pgflow.mine() returns int language sql as 'select 1'")
    before = str(value(old, COMMENT))
    admin.execute(f"comment on schema pgflow is {'null' if comment is None else repr(comment)}".encode())
    assert check(old).last_migration is None
    with pytest.raises(SetupError, match=r"nothing was changed: .*is not known: no comment of ours"):
        upgrade(old, core_dir=newer)
    admin.execute(f"comment on schema pgflow is '{before}'".encode())
    with pytest.raises(SetupError, match=rf"says {OLDEST}, but functions or columns were changed since.*COMMENT ON"):
        upgrade(old, core_dir=newer)
    admin.execute(f"comment on schema pgflow is 'pgflow-starter: migrated to {OLDEST}'".encode())
    assert upgrade(old, core_dir=newer) == newer_names(newer)


def test_rights_and_settings_are_no_change_of_the_core(old: str, newer: Path, admin: Admin) -> None:
    admin.execute("grant select on all tables in schema pgflow to public")
    admin.execute("alter function pgflow.start_tasks set work_mem to '8MB'")
    admin.execute("create index mine on pgflow.runs (status)")
    assert upgrade(old, core_dir=newer) == newer_names(newer)


def test_a_realtime_that_is_gone_is_stubbed_again(old: str, newer: Path, admin: Admin) -> None:
    admin.execute("drop schema realtime cascade")
    told: list[str] = []
    upgrade(old, core_dir=newer, dry_run=True, progress=told.append)
    upgrade(old, core_dir=newer, progress=told.append)
    assert [line.partition(" as ")[0] for line in told if "realtime" in line] == [
        "would create realtime.send",
        "created realtime.send",
    ]
    assert value(old, "select to_regprocedure('realtime.send(jsonb,text,text,boolean)') is not null") is True


def test_a_folder_s_core_can_be_installed_at_once(empty_database: str, newer: Path) -> None:
    installed = install(empty_database, core_dir=newer)
    last = from_folder(newer).last
    assert installed.steps[-1] == f"installed the pgflow core of folder '{newer}'"
    assert (installed.inventory.ok, installed.inventory.last_migration) == (True, last)
    assert install(empty_database, core_dir=newer).steps == ()
    with pytest.raises(
        SetupError, match=rf"not this one \(its last migration is {last}\); `pgflow-starter db upgrade`"
    ):
        install(empty_database, core_version="0.8.1")


def test_workers_that_are_at_work_meanwhile_go_on(old: str, newer: Path) -> None:
    job = echo_job()
    told: list[str] = []
    with running(old, jobs=[job], heartbeat_interval=0.2, stale_threshold=1.0) as starter:
        starter.await_ready(20)
        first = starter.client.enqueue_many(job, range(50))
        upgrade(old, core_dir=newer, progress=told.append)
        second = starter.client.enqueue_many(job, range(50))
        results = [r.wait(30).result for r in (*first, *second)]
        assert [w.trouble for w in starter.workers()] == [None]
    assert results == [*range(50), *range(50)]
    assert any(
        line.startswith("workers are alive: ") and "1 of 'pgflow_starter:echo' on queue 'echo'" in line for line in told
    )


def test_a_migration_that_fails_is_named_and_nothing_is_left(
    old: str, newer: Path, admin: Admin, tmp_path: Path
) -> None:
    folder = tmp_path / "failing"
    folder.mkdir()
    for file in newer.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    (folder / "29990101000000_pgflow_broken.sql").write_text("create table pgflow.more (n int); select 1 / 0;")
    before = value(old, COMMENT)
    with pytest.raises(DatabaseError, match=r"29990101000000_pgflow_broken failed, nothing was changed: division"):
        upgrade(old, core_dir=folder)
    assert value(old, COMMENT) == before
    assert check(old).core == "0.8.1 or 0.9"
    assert upgrade(old, core_dir=newer) == newer_names(newer)


def test_the_newest_stand_in_is_reached_when_workers_are_stopped(old: str, newest: Path) -> None:
    job = echo_job()
    with running(old, jobs=[job]) as starter:
        assert starter.client.enqueue(job, 1).wait(20).result == 1
    assert upgrade(old, core_dir=newest)[-1] == from_folder(newest).last
    with running(old, jobs=[job]) as starter:
        assert starter.client.enqueue(job, 2).wait(20).result == 2
