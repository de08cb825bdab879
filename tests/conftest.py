"""One server for the session, one database for each test, and no thread left behind."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from pgflow_starter.postgres.embedded import EmbeddedPostgres
from tests.support.cores import install_core
from tests.support.databases import FAST, fresh_database, memory_folder
from tests.support.threads import left_over, ours

THREADS_END_WITHIN = 5.0


@pytest.fixture(scope="session")
def pg_version() -> int:
    """The major version of the embedded server: PGFLOW_TEST_PG, else 18."""
    return int(os.environ.get("PGFLOW_TEST_PG") or 18)


@pytest.fixture(scope="session")
def server(pg_version: int) -> Iterator[EmbeddedPostgres]:
    """The session's server. A test that stops or kills a server starts one of its own."""
    with EmbeddedPostgres(version=pg_version, settings=FAST, parent=memory_folder()) as running:
        yield running


@pytest.fixture(scope="session")
def template(server: EmbeddedPostgres) -> Iterator[str]:
    """The name of a database with pgmq and the pgflow core, to be copied."""
    with fresh_database(server) as conninfo:
        install_core(conninfo)
        yield conninfo.rpartition("dbname=")[2]


@pytest.fixture
def database(server: EmbeddedPostgres, template: str) -> Iterator[str]:
    """The connection string of a fresh database with pgmq and the pgflow core."""
    with fresh_database(server, template) as conninfo:
        yield conninfo


@pytest.fixture
def empty_database(server: EmbeddedPostgres) -> Iterator[str]:
    """The connection string of a fresh database with nothing in it."""
    with fresh_database(server) as conninfo:
        yield conninfo


@pytest.fixture(autouse=True)
def no_thread_left_behind() -> Iterator[None]:
    """Fails the test after which a thread of ours is still there."""
    before = ours()
    yield
    if names := left_over(before, THREADS_END_WITHIN):
        pytest.fail(f"threads left behind: {', '.join(names)}")
