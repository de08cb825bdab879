"""Each test here runs on each core."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from pgflow_starter.postgres.embedded import EmbeddedPostgres
from tests.cores.stand_in import Admin, upgrade
from tests.support.databases import fresh_database

OLDER, NEWER = CORES = ("0.8.1", "newer")


@pytest.fixture(scope="session")
def newer_template(server: EmbeddedPostgres, template: str) -> Iterator[str]:
    """The name of a database with the stand-in for a newer core, to be copied."""
    with fresh_database(server, template) as conninfo:
        upgrade(conninfo)
        yield conninfo.rpartition("dbname=")[2]


@pytest.fixture(params=CORES)
def core(request: pytest.FixtureRequest) -> str:
    """Which core the test's database has."""
    return str(request.param)


@pytest.fixture
def database(server: EmbeddedPostgres, core: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """The connection string of a fresh database with that core."""
    with fresh_database(server, request.getfixturevalue("template" if core == OLDER else "newer_template")) as conninfo:
        yield conninfo


@pytest.fixture
def newer_database(server: EmbeddedPostgres, newer_template: str) -> Iterator[str]:
    """The connection string of a fresh database with the newer core, for what no older one has."""
    with fresh_database(server, newer_template) as conninfo:
        yield conninfo


@pytest.fixture
def admin(database: str) -> Iterator[Admin]:
    """A connection to the database, to look and to interfere with."""
    with psycopg.connect(database, autocommit=True) as connection:
        yield connection
