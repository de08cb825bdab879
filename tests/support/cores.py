"""Which pgflow core the tests run on: 0.8.1 as npm ships it, or the migrations in a folder of yours."""

from __future__ import annotations

import os
from pathlib import Path

from pgflow_starter.postgres.setup.install import install

FOLDER = os.environ.get("PGFLOW_CORE") or ""
"""The folder, empty for 0.8.1."""


def names() -> list[str]:
    """The migrations in the folder, in the order in which they apply."""
    return sorted(path.name for path in Path(FOLDER).glob("*.sql"))


def install_core(conninfo: str) -> None:
    """Bring pgmq and that core into a database."""
    install(conninfo, core_dir=Path(FOLDER) if FOLDER else None)
