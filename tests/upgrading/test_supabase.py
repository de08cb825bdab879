"""A database whose migrations Supabase keeps book of, and the folder of its project."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from pgflow_starter.errors import SetupError
from pgflow_starter.postgres.setup import core_package
from pgflow_starter.postgres.setup.install import check
from pgflow_starter.postgres.setup.migrations import OLDEST, Source, from_folder
from pgflow_starter.postgres.setup.upgrade import upgrade
from tests.cores.stand_in import Admin
from tests.support.waiting import eventually
from tests.upgrading.rig import BOOK, folder_to, stand_in_name


def is_new(name: str) -> bool:
    """Whether what Supabase's table calls that is newer than 0.8.1."""
    return "_pgflow_" in name and name[:14] > OLDEST[:14]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The folder of a project, with migrations of its own among pgflow's."""
    folder = folder_to(tmp_path / "migrations", "0.15.1", prefix="20250101000000")
    for own in ("20240101000000_shop", "20250601000000_create_greet_flow", "20250602000000_pgflow_grants"):
        (folder / f"{own}.sql").write_text("select 1 / 0")
    return folder


@pytest.fixture
def book(old: str, project: Path, admin: Admin) -> Admin:
    """To look at Supabase's table, which has what 0.8.1 has."""
    admin.execute(BOOK)
    admin.execute("comment on schema pgflow is null")
    for file in sorted(project.glob("*.sql")):
        version, _, name = file.stem.partition("_")
        if not is_new(name):
            admin.execute("insert into supabase_migrations.schema_migrations values (%s, '{}', %s)", (version, name))
    return admin


def recorded(admin: Admin) -> list[tuple[object, ...]]:
    rows = admin.execute("select version, name from supabase_migrations.schema_migrations order by 1").fetchall()
    return [row for row in rows if is_new(str(row[1]))]


def test_what_is_applied_is_in_supabase_s_book_as_its_own_program_would_have_it(
    old: str, project: Path, book: Admin
) -> None:
    told: list[str] = []
    names = upgrade(old, core_dir=project, progress=told.append)
    assert names == tuple(m.name for m in from_folder(project).migrations if is_new(m.name))
    assert {stand_in_name("0.14"), stand_in_name("0.15.1")} < set(names)
    assert told[0].endswith(f"up to {OLDEST}, by Supabase's table of migrations")
    assert told[1] == "passed over 20250602000000_pgflow_grants.sql: it has no name that pgflow has published"
    files = [file.stem.partition("_") for file in sorted(project.glob("*_pgflow_*.sql"))]
    assert recorded(book) == [(version, name) for version, _, name in files if is_new(name)]
    assert check(old).last_migration == names[-1]
    assert upgrade(old, core_dir=project) == ()


def test_the_table_counts_before_a_comment(old: str, project: Path, book: Admin) -> None:
    book.execute("comment on schema pgflow is 'pgflow-starter: migrated to 29990101000000_pgflow_wrong'")
    assert check(old).last_migration == OLDEST


@pytest.mark.parametrize("where", ["table", "comment"])
def test_what_functions_and_columns_belie_is_refused(old: str, project: Path, book: Admin, where: str) -> None:
    claimed, says = stand_in_name("0.14"), "Supabase's table of migrations"
    if where == "table":
        book.execute(
            "insert into supabase_migrations.schema_migrations values ('29990101000000', '{}', %s)", (claimed,)
        )
    else:
        says = "the comment on schema pgflow"
        book.execute("drop schema supabase_migrations cascade")
        book.execute(f"comment on schema pgflow is 'pgflow-starter: migrated to {claimed}'".encode())
    assert check(old).last_migration is None
    reason = f"{says} says that this database has had {claimed}, but its functions and columns are those that {OLDEST}"
    with pytest.raises(SetupError, match=f"^nothing was changed: {reason} left: "):
        upgrade(old, core_dir=project)


def test_what_somebody_else_applies_meanwhile_is_not_applied_again(old: str, project: Path, book: Admin) -> None:
    upgrade(old, core_dir=project)
    version, name = "29990101000000", "29990101000000_pgflow_more"
    (project / f"{version}_{name}.sql").write_text("create table pgflow.more (n int)")
    with psycopg.connect(old) as other, ThreadPoolExecutor(1) as aside:
        other.execute("create table pgflow.more (n int); lock table pgflow.runs")
        other.execute("insert into supabase_migrations.schema_migrations values (%s, '{}', %s)", (version, name))
        upgraded = aside.submit(upgrade, old, core_dir=project)
        waiting = "select count(*) from pg_locks where relation = 'pgflow.runs'::regclass and not granted"
        eventually(lambda: book.execute(waiting).fetchone() == (1,))
        other.commit()
        assert upgraded.result(60) == ()


def test_a_table_that_may_not_be_read_is_passed_over(old: str, project: Path, book: Admin) -> None:
    name = f"plain_{book.info.dbname}"
    book.execute(f"create role {name} login".encode())
    try:
        assert check(f"{old} user={name}").last_migration == OLDEST
    finally:
        book.execute(f"drop role {name}".encode())


def test_the_package_by_itself_would_be_applied_twice_and_is_refused(
    old: str, project: Path, book: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    core = Source("the pgflow core 0.15.1", from_folder(project).migrations, is_package=True)
    monkeypatch.setattr(core_package, "migrations", lambda version: core)
    with pytest.raises(SetupError, match=r"would apply these once more: have `npx pgflow install`.*--core-dir"):
        upgrade(old, core_version="0.15.1")
    assert recorded(book) == []


def test_a_gap_in_the_table_is_named(old: str, project: Path, book: Admin) -> None:
    book.execute("delete from supabase_migrations.schema_migrations where name like '%pgflow_add_realtime'")
    with pytest.raises(SetupError, match="but not 20250614124241_pgflow_add_realtime: apply what is missing first"):
        upgrade(old, core_dir=project)


def test_plain_names_as_an_earlier_cli_left_them_count_as_well(old: str, tmp_path: Path, admin: Admin) -> None:
    admin.execute(BOOK)
    folder = folder_to(tmp_path / "plain", "0.14", prefix="20250101000000")
    for file in sorted(folder.glob("*.sql")):
        name = file.name.partition("_")[2]
        if not is_new(name):
            file.rename(folder / name)
            version, _, title = name.removesuffix(".sql").partition("_")
            admin.execute("insert into supabase_migrations.schema_migrations values (%s, '{}', %s)", (version, title))
    assert upgrade(old, core_dir=folder)[-1] == stand_in_name("0.14")
