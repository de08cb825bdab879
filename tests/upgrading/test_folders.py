"""Which files of a folder are pgflow's migrations, and folders that are refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pgflow_starter.errors import SetupError
from pgflow_starter.postgres.setup import core_package
from pgflow_starter.postgres.setup.migrations import OLDEST, from_folder
from tests.upgrading.rig import fillers, folder_to

FIRST = "20250429164909_pgflow_initial"


def folder_of(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / f"{name}.sql").write_text(f"select '{name}'")
    return folder


def package(folder: Path, *more: str) -> Path:
    """Of 0.8.1, with some more."""
    return folder_of(folder, FIRST, *fillers([FIRST, OLDEST]), OLDEST, *more)


def names(folder: Path) -> list[str]:
    return [migration.name for migration in from_folder(folder).migrations]


def test_the_package_s_folder_has_what_the_package_has(tmp_path: Path) -> None:
    for migration in core_package.migrations().migrations:
        (tmp_path / f"{migration.name}.sql").write_text(migration.sql)
    assert from_folder(tmp_path).migrations == core_package.migrations().migrations


def test_of_a_project_s_folder_pgflow_s_are_taken_in_pgflow_s_order(tmp_path: Path) -> None:
    between = [f"20260101000000_{name}" for name in fillers([FIRST, OLDEST])]
    pgflows = (f"20260101000000_{OLDEST}", f"20260101000001_{FIRST}", *between)
    folder_of(tmp_path, *pgflows, "20250101000000_own", "20250505000000_pgflow_mine")
    (tmp_path / "README.md").write_text("no migration")
    source = from_folder(tmp_path)
    taken = [(m.name, m.version, m.title) for m in source.migrations]
    assert (taken[0], taken[-1]) == ((FIRST, "20260101000001", FIRST), (OLDEST, "20260101000000", OLDEST))
    assert len(taken) == len(pgflows)
    assert source.passed_over == ("20250505000000_pgflow_mine.sql",)


def test_a_newer_package_than_is_known_here_is_taken_whole(tmp_path: Path) -> None:
    assert names(package(tmp_path, "29990101000000_pgflow_new"))[-1] == "29990101000000_pgflow_new"


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ([], "has no migrations of pgflow in it: give a Supabase project's supabase/migrations, or"),
        (["20250101000000_own"], "has no migrations of pgflow in it"),
        ([OLDEST], f"has pgflow's migrations from {OLDEST} on only, not from the first"),
        ([FIRST], f"has no {OLDEST} of pgflow's: its core is older than 0.8.1, or"),
        (
            [FIRST, OLDEST],
            f"migration of {OLDEST[:14]}, but none of those before it that is named 20250517072017_pgflow_",
        ),
        (
            [FIRST, f"20260101000001_{FIRST}", OLDEST],
            f"has the migration {FIRST} twice, in {FIRST}.sql and in 20260101",
        ),
    ],
)
def test_a_folder_that_will_not_do_is_named_with_what_would(tmp_path: Path, files: list[str], words: str) -> None:
    with pytest.raises(SetupError) as caught:
        from_folder(folder_of(tmp_path, *files))
    assert words in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"nowhere' cannot be read: No such file or directory; give"):
        from_folder(tmp_path / "nowhere")
    package(tmp_path)
    (tmp_path / f"{OLDEST}.sql").write_bytes(b"select '\xff'")
    with pytest.raises(SetupError, match=rf"{OLDEST}.sql cannot be read: it is not UTF-8"):
        from_folder(tmp_path)
    (tmp_path / f"{OLDEST}.sql").write_text(" \n")
    with pytest.raises(SetupError, match=rf"{OLDEST}.sql is empty: copy it anew"):
        from_folder(tmp_path)
    (tmp_path / f"{OLDEST}.sql").write_text("select 1;\0 select 2")
    with pytest.raises(SetupError, match=rf"{OLDEST}.sql has a zero byte in it: copy it anew"):
        from_folder(tmp_path)
    (tmp_path / f"{OLDEST}.sql").unlink()
    (tmp_path / f"{OLDEST}.sql").mkdir()
    with pytest.raises(SetupError, match=rf"{OLDEST}.sql cannot be read: it is not a regular file"):
        from_folder(tmp_path)
    (tmp_path / f"{OLDEST}.sql").rmdir()
    os.mkfifo(tmp_path / f"{OLDEST}.sql")  # nobody will ever write into it
    with pytest.raises(SetupError, match=rf"{OLDEST}.sql cannot be read: it is not a regular file"):
        from_folder(tmp_path)


def test_a_folder_of_stand_ins_is_one_of_a_core(tmp_path: Path) -> None:
    assert names(folder_to(tmp_path / "made", "0.14", prefix="20250101000000"))[-1].endswith("_pgflow_step_conditions")


def test_what_an_editor_of_windows_wrote_is_the_same(tmp_path: Path) -> None:
    package(tmp_path)
    (tmp_path / f"{OLDEST}.sql").write_bytes(b"\xef\xbb\xbfselect 1;\r\nselect 2;\r\n")
    assert from_folder(tmp_path).migrations[-1].sql == "select 1;\nselect 2;\n"
