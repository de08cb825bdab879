"""Databases with the core 0.8.1, whatever core the other tests run on, and a folder with a newer one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from pgflow_starter.postgres.embedded.server import EmbeddedPostgres
from pgflow_starter.postgres.setup.install import install
from tests.cores.stand_in import Admin
from tests.support.databases import fresh_database
from tests.upgrading.rig import folder_to


@pytest.fixture(scope="session")
def old_template(server: EmbeddedPostgres) -> Iterator[str]:
    with fresh_database(server) as conninfo:
        install(conninfo)
        yield conninfo.rpartition("dbname=")[2]


@pytest.fixture
def old(server: EmbeddedPostgres, old_template: str) -> Iterator[str]:
    """The connection string of a fresh database with pgmq and the core 0.8.1."""
    with fresh_database(server, old_template) as conninfo:
        yield conninfo


@pytest.fixture
def admin(old: str) -> Iterator[Admin]:
    """A connection to the database, to look and to interfere with."""
    with psycopg.connect(old, autocommit=True) as connection:
        yield connection


@pytest.fixture
def newer(tmp_path: Path) -> Path:
    """A folder with the migrations of a core without private queues, or that of PGFLOW_CORE."""
    return folder_to(tmp_path / "newer", "0.15.1")


@pytest.fixture
def newest(tmp_path: Path) -> Path:
    """A folder with the migrations of the newest core that there is a stand-in for."""
    return folder_to(tmp_path / "newest", "0.17")
