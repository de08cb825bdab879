"""Migrations of the pgflow core, and those in a folder: the package's own, or a Supabase project's."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from pgflow_starter.core.text import one_line
from pgflow_starter.errors import SetupError

OLDEST = "20251104080523_pgflow_upgrade_pgmq_1_5_1"
"""The last migration of 0.8.1: what works here has had it."""

PUBLISHED = frozenset({
    "20250429164909", "20250517072017", "20250609105135", "20250610180554", "20250614124241", "20250619195327",
    "20250627090700", "20250707210212", "20250719205006", "20251006073122", "20251103222045", "20251104080523",
    "20251130000000", "20251209074533", "20251212100113", "20251225163110", "20260103145141", "20260120205547",
    "20260124113408", "20260214181656", "20260607175525", "20260904095427", "20260907082520", "20260915074120",
    "20260919152659", "20260920093533", "20261001194538",
})  # fmt: skip
"""When each migration was made that has been published, to 0.17.1: by that one is told from a user's own in a folder
that has both, and that one is missing."""

# pgflow's CLI puts a time of the project's before the whole name; earlier ones left the name as it is.
_NAME = re.compile(r"(?:(?P<project>\d{14})_)?(?P<own>(?P<made>\d{14})_pgflow_\w+)")
_WHERE = "give a Supabase project's supabase/migrations, or dist/supabase/migrations of the npm package @pgflow/core"


class Migration(NamedTuple):
    """One migration of the core: pgflow's own name for it, which orders it, and its SQL; and the version and the name
    under which Supabase's table of migrations keeps the file that it is from."""

    name: str
    sql: str
    version: str = ""
    title: str = ""


class Source(NamedTuple):
    """The migrations of one core, in order, where they are from, whether npm's, and files beside them that look like
    some."""

    told: str
    migrations: tuple[Migration, ...]
    is_package: bool = False
    passed_over: tuple[str, ...] = ()

    @property
    def last(self) -> str:
        """The newest one's name."""
        return self.migrations[-1].name

    @property
    def names(self) -> frozenset[str]:
        """Their names."""
        return frozenset(migration.name for migration in self.migrations)


def is_published(name: str) -> bool:
    """Whether it is one of those that were, when this was written."""
    return name[:14] in PUBLISHED


def own_name(version: str, title: str) -> str | None:
    """pgflow's name for what Supabase's table has under a version and a name; None for a migration of others."""
    found = _NAME.fullmatch(f"{version}_{title}")
    return found["own"] if found else None


def from_folder(folder: Path) -> Source:
    """pgflow's migrations in a folder, whatever else is in it. Reads files.

    Raises SetupError: no such folder, nothing of pgflow's in it, not its first one, nothing as new as 0.8.1, one
    missing between others, two files of one migration, a file that cannot be read.
    """
    told = f"the folder {one_line(str(folder))!r}"
    try:
        files = sorted(name.removesuffix(".sql") for name in os.listdir(folder) if name.endswith(".sql"))
    except OSError as error:
        raise SetupError(f"{told} cannot be read: {error.strerror or error}; {_WHERE}") from None
    names = {file: found for file in files if (found := _NAME.fullmatch(file))}
    # Nothing but plain names: the package's, which may be newer than we are.
    all_plain = len(names) == len(files) and not any(found["project"] for found in names.values())
    taken: dict[str, str] = {}
    for file, found in names.items():
        if not (all_plain or found["project"] or found["made"] in PUBLISHED):
            continue
        if found["own"] in taken:
            raise SetupError(
                f"{told} has the migration {found['own']} twice, in {taken[found['own']]}.sql and in"
                f" {file}.sql: take one of them away"
            )
        taken[found["own"]] = file
    if not taken:
        raise SetupError(f"{told} has no migrations of pgflow in it: {_WHERE}")
    refuse_incomplete(taken, told, _WHERE)
    return Source(
        f"the pgflow core of {told.removeprefix('the ')}",
        tuple(_read(folder, name, file) for name, file in sorted(taken.items())),
        passed_over=tuple(one_line(f"{file}.sql") for file in names if file not in taken.values()),
    )


def refuse_incomplete(names: Iterable[str], told: str, remedy: str) -> None:
    """Raise SetupError where the migrations of a core, by their names, are not all there. `told` is what has them."""
    first = min(names)
    if not first.endswith("_pgflow_initial"):
        raise SetupError(f"{told} has pgflow's migrations from {first} on only, not from the first: {remedy}")
    if OLDEST not in names:
        raise SetupError(f"{told} has no {OLDEST} of pgflow's: its core is older than 0.8.1, or files are missing")
    there = PUBLISHED & {name[:14] for name in names}
    missing = min(PUBLISHED - there, default="")
    if missing and missing < max(there):  # what is passed over could never be applied later
        raise SetupError(
            f"{told} has pgflow's migration of {max(there)}, but none of those before it that is named"
            f" {missing}_pgflow_...: {remedy}"
        )


def text_of(content: bytes, told: str, remedy: str) -> str:
    """The SQL in a migration's file. Raises SetupError for what is none, of which `told` says where it is."""
    try:
        text = content.decode("utf-8-sig")  # some editors of Windows write a mark before it
    except UnicodeDecodeError:
        raise SetupError(f"the migration {told} cannot be read: it is not UTF-8") from None
    if not text.strip() or "\0" in text:  # what comes after a zero byte would never be sent
        what = "has a zero byte in it" if text.strip() else "is empty"
        raise SetupError(f"the migration {told} {what}: {remedy}")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _read(folder: Path, name: str, file: str) -> Migration:
    path = folder / f"{file}.sql"
    told = one_line(str(path))
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # one that is a pipe would be waited for
            raise SetupError(f"the migration {told} cannot be read: it is not a regular file")
        content = path.read_bytes()
    except OSError as error:
        raise SetupError(f"the migration {told} cannot be read: {error.strerror}") from None
    version, _, title = file.partition("_")
    return Migration(name, text_of(content, told, "copy it anew"), version, title)
