"""Which pgflow core the tests run on: 0.8.1 as npm ships it, or the migrations in a folder of yours."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from pgflow_starter.postgres.setup import core_package
from pgflow_starter.postgres.setup.core_package import Migration
from pgflow_starter.postgres.setup.install import install

FOLDER = os.environ.get("PGFLOW_CORE") or ""
"""The folder, empty for 0.8.1."""

# Whoever lays migrations there has neither pg_cron nor what the bodies of some functions name.
_CRON = re.compile(r"^\s*select\s+(pgflow\.setup_\w+|cron\.schedule)\s*\([^;]*;", re.IGNORECASE | re.MULTILINE)
_PREFACE = "set local check_function_bodies = off;\n"


def names() -> list[str]:
    """The migrations in the folder, in the order in which they apply."""
    return sorted(path.name for path in Path(FOLDER).glob("*.sql"))


def install_core(conninfo: str) -> None:
    """Bring pgmq and that core into a database."""
    with pytest.MonkeyPatch.context() as patched:
        if FOLDER:
            patched.setattr(core_package, "migrations", _migrations)
        install(conninfo)


def _migrations() -> tuple[Migration, ...]:
    return tuple(
        Migration(name, _PREFACE + _CRON.sub("", (Path(FOLDER) / name).read_text(encoding="utf-8"))) for name in names()
    )
