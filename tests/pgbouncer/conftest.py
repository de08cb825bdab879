"""A server on TCP, and PgBouncer before it in its two ways of pooling."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from psycopg.conninfo import make_conninfo

from pgflow_starter.postgres.embedded.server import EmbeddedPostgres
from pgflow_starter.postgres.setup.install import install
from tests.pgbouncer.pooler import MISSING, pooler, program
from tests.support.databases import FAST, fresh_database, memory_folder

POOL_SIZE = 2
"""Server connections for each database: fewer than whatever a starter would like to have."""


@pytest.fixture(scope="session")
def server(pg_version: int) -> Iterator[EmbeddedPostgres]:
    """The session's server, in the place of the one on a socket."""
    if program() is None:
        pytest.exit(MISSING, returncode=1)
    with EmbeddedPostgres(version=pg_version, tcp=True, settings=FAST, parent=memory_folder()) as running:
        yield running


@pytest.fixture(scope="session")
def template(server: EmbeddedPostgres) -> Iterator[str]:
    """As in the tests' own conftest, on this server."""
    with fresh_database(server) as conninfo:
        install(conninfo)
        yield conninfo.rpartition("dbname=")[2]


@pytest.fixture(scope="session")
def transaction_port(server: EmbeddedPostgres) -> Iterator[int]:
    with pooler(server.conninfo(), pool_mode="transaction", pool_size=POOL_SIZE) as port:
        yield port


@pytest.fixture(scope="session")
def session_port(server: EmbeddedPostgres) -> Iterator[int]:
    with pooler(server.conninfo(), pool_mode="session", pool_size=30) as port:
        yield port


@pytest.fixture
def pooled(database: str, transaction_port: int) -> str:
    """The fresh database through a transaction pooler."""
    return make_conninfo(database, port=transaction_port)


@pytest.fixture
def session_pooled(database: str, session_port: int) -> str:
    """The fresh database through a session pooler."""
    return make_conninfo(database, port=session_port)
