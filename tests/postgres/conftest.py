"""Roles and servers that the tests of this room may do as they like with."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from pgflow_starter.postgres.embedded.server import EmbeddedPostgres
from tests.postgres.pool_rig import World
from tests.postgres.rights_rig import WORKER, Admin
from tests.support.databases import FAST, memory_folder


@pytest.fixture
def admin(database: str) -> Iterator[Admin]:
    """The owner of all."""
    with psycopg.connect(database, autocommit=True) as admin:
        yield admin


@pytest.fixture
def worker(database: str, admin: Admin) -> Iterator[str]:
    """The connection string of a role that has no right here, nor a usual name."""
    role = sql.Identifier(WORKER)
    with suppress(psycopg.errors.UndefinedObject):  # what a test that was cut short has left
        admin.execute(sql.SQL("drop owned by {r}; drop role {r}").format(r=role))
    admin.execute(sql.SQL("create role {} login").format(role))
    yield make_conninfo(database, user=WORKER)
    terminate = "select pg_terminate_backend(pid, 5000) from pg_stat_activity where usename = %s"
    admin.execute(terminate, (WORKER,))
    admin.execute("reset role")
    admin.execute(sql.SQL("drop owned by {r} cascade; drop role {r}").format(r=role))


@pytest.fixture
def own(pg_version: int) -> Iterator[EmbeddedPostgres]:
    """A server that a test may break, over TCP."""
    with EmbeddedPostgres(version=pg_version, tcp=True, settings=FAST, parent=memory_folder()) as running:
        yield running


@pytest.fixture
def roomy_folder() -> Iterator[Path]:
    """A folder that every user may enter; pytest's own is closed to the server's user where root runs the tests."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def world(empty_database: str) -> Iterator[World]:
    world = World(empty_database)
    yield world
    for pool in world.pools:
        pool.close()
    for conn in world.made:
        conn.close()
