"""Supabase's table of migrations, kept so that its own program goes on with a project whose core was laid down here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from pgflow_starter.errors import SetupError
from pgflow_starter.postgres.setup.install import check, install
from pgflow_starter.postgres.setup.migrations import OLDEST, from_folder
from pgflow_starter.postgres.setup.upgrade import upgrade
from tests.cores.stand_in import Admin
from tests.postgres.install_rig import run, value
from tests.upgrading.rig import BOOK, folder_to, stand_in_name

ROWS = "select count(*) from supabase_migrations.schema_migrations"
OWN = "20990101000000_shop"


def push(conninfo: str, folder: Path) -> list[str]:
    """The files that Supabase's own program would apply, by its rules: it goes by versions alone."""
    with psycopg.connect(conninfo) as connection:
        rows = connection.execute("select version from supabase_migrations.schema_migrations").fetchall()
    remote = {str(row[0]) for row in rows}
    local = {file.stem.partition("_")[0]: file.stem for file in folder.glob("*.sql")}
    assert remote <= set(local), "Remote migration versions not found in local migrations directory"
    pending = {version: name for version, name in local.items() if version not in remote}
    assert min(pending, default="9") > max(remote, default=""), "Found local migration files to be inserted before"
    return sorted(pending.values())


def project_to(folder: Path, version: str) -> Path:
    folder_to(folder, version, prefix="20250101000000")
    (folder / f"{OWN}.sql").write_text("create table shop ()")
    return folder


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The folder of a project, of which nothing was pushed yet."""
    return project_to(tmp_path / "migrations", "0.14")


@contextmanager
def owner_of(conninfo: str) -> Iterator[str]:
    """The connection string of a role that may create what it likes in a database with a book, and only read that."""
    with psycopg.connect(conninfo, autocommit=True) as admin:
        name = f"owner-{admin.info.dbname}"
        admin.execute(f'create role "{name}" login; grant create on database {admin.info.dbname} to "{name}"'.encode())
        try:
            yield make_conninfo(conninfo, user=name)
        finally:
            admin.execute(f'drop owned by "{name}" cascade; drop role "{name}"'.encode())


def test_an_installation_from_the_project_s_folder_leaves_the_project_s_own_to_push(
    empty_database: str, project: Path
) -> None:
    run(empty_database, BOOK)
    steps = install(empty_database, core_dir=project).steps
    last = max(m.version for m in from_folder(project).migrations)
    assert any(step.endswith(f"from 20250101000000 to {last}") for step in steps)
    assert push(empty_database, project) == [OWN]
    assert upgrade(empty_database, core_dir=project) == ()
    more = project_to(project, "0.15.1")
    assert stand_in_name("0.15.1") in upgrade(empty_database, core_dir=more)
    assert push(empty_database, more) == [OWN]


@pytest.mark.parametrize("known_by", ["the comment on schema pgflow", "its functions and columns"])
def test_an_upgrade_writes_what_an_earlier_installation_has_not_written(
    old: str, project: Path, admin: Admin, known_by: str
) -> None:
    admin.execute(BOOK)
    if known_by != "the comment on schema pgflow":
        admin.execute("comment on schema pgflow is null")
    names = upgrade(old, core_dir=project)
    assert min(names) > OLDEST
    assert push(old, project) == [OWN]


def test_where_nothing_is_to_be_applied_it_is_written_all_the_same(old: str, tmp_path: Path, admin: Admin) -> None:
    admin.execute(BOOK)
    project = project_to(tmp_path / "migrations", "0.14")
    for file in project.glob("*_pgflow_*.sql"):
        if file.stem.partition("_")[2] > OLDEST:
            file.unlink()
    would, told = list[str](), list[str]()
    assert upgrade(old, core_dir=project, dry_run=True, progress=would.append) == ()
    assert value(old, ROWS) == 0
    assert upgrade(old, core_dir=project, progress=told.append) == ()
    assert told[1] == f"it has all of the pgflow core of folder '{project}'"
    assert told[2].startswith("wrote into Supabase's table of migrations: 12, from 20250101000000 to 202501010000")
    assert would == [*told[:2], told[2].replace("wrote", "would write")]
    assert push(old, project) == [OWN]
    assert upgrade(old, core_dir=project, progress=told.append) == ()
    assert told[-1].endswith("nothing was changed")


def test_what_supabase_s_own_program_left_without_a_name_is_not_written_again(
    old: str, project: Path, admin: Admin
) -> None:
    admin.execute(BOOK)
    admin.execute("insert into supabase_migrations.schema_migrations (version) values ('20250101000003')")
    upgrade(old, core_dir=project)
    assert push(old, project) == [OWN]


def test_npm_s_package_is_no_project_s_and_its_versions_would_keep_everything_from_being_pushed(
    empty_database: str, project: Path
) -> None:
    run(empty_database, BOOK)
    steps = install(empty_database).steps
    assert value(empty_database, ROWS) == 0
    assert steps[-2].startswith("Supabase keeps book of this database's migrations, and these are none of its")
    upgrade(empty_database, core_dir=project)
    assert push(empty_database, project) == [OWN]


def test_who_may_not_write_the_book_is_told_the_grant_before_anything_is_done(
    empty_database: str, tmp_path: Path
) -> None:
    project = project_to(tmp_path / "migrations", "0.14")
    run(empty_database, BOOK)
    with owner_of(empty_database) as owner:
        with pytest.raises(SetupError, match=r"^nothing was changed: role 'owner-.*' may not read Supabase's table"):
            install(owner, core_dir=project)
        assert check(empty_database).pgmq == "missing"
        install(owner)
        run(empty_database, "grant usage on schema supabase_migrations to public")
        run(empty_database, "grant select on supabase_migrations.schema_migrations to public")
        for dry_run in (True, False):
            with pytest.raises(SetupError, match=r"^nothing was changed: role 'owner-.*' may not write") as caught:
                upgrade(owner, core_dir=project, dry_run=dry_run)
        assert check(empty_database).last_migration == OLDEST
        grants = str(caught.value).partition("be written: ")[2]
        assert grants.startswith('GRANT USAGE ON SCHEMA supabase_migrations TO "owner-')
        run(empty_database, grants)
        upgrade(owner, core_dir=project)
        assert push(empty_database, project) == [OWN]
