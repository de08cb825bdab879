"""pytest fixtures for tests on a real PostgreSQL with pgmq and the pgflow core. They need the extra `embedded`.

def test_an_order(pgflow_database):
    with pgflow_starter.start(pgflow_database, flows=[order]) as starter:
        assert starter.client.start_flow(order, {"order_id": 7}).wait(10).result == {"charged": 42}

pytest loads this by itself, in every run: what is heavy is imported by the fixtures.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

if TYPE_CHECKING:
    from pgflow_starter.postgres.embedded.server import EmbeddedPostgres

# No commit is lost when the server is killed, only when the machine is. An autovacuum could hold the template.
_SETTINGS = {"autovacuum": "off", "fsync": "off", "full_page_writes": "off"}


@pytest.fixture(scope="session")
def pgflow_server() -> Iterator[EmbeddedPostgres]:
    """The session's own PostgreSQL server, removed at its end; under pytest-xdist each worker has one.

    A test may stop and kill it: `pgflow_database` starts it again.
    """
    with ExitStack() as stack:
        with _told_without_traceback():
            from pgflow_starter.postgres.embedded.server import EmbeddedPostgres

            server = stack.enter_context(EmbeddedPostgres(settings=_SETTINGS))
        yield server


@pytest.fixture(scope="session")
def _pgflow_template(pgflow_server: EmbeddedPostgres) -> str:
    """The name of a database with pgmq and the pgflow core, to be copied."""
    name = "pgflow_template"
    with _told_without_traceback():
        from pgflow_starter.postgres.setup.install import install

        _execute(pgflow_server, f"create database {name}")
        install(pgflow_server.conninfo(name))
    return name


@pytest.fixture
def pgflow_database(pgflow_server: EmbeddedPostgres, _pgflow_template: str) -> Iterator[str]:
    """The connection string of a fresh database with pgmq and the pgflow core, for this test alone.

    It is dropped at the test's end, whoever is still connected: stop starters and close clients before.
    """
    name = f"pgflow_{uuid4().hex}"
    _execute(pgflow_server, f"create database {name} template {_pgflow_template} strategy file_copy")
    try:
        yield pgflow_server.conninfo(name)
    finally:
        _execute(pgflow_server, f"drop database {name} with (force)")


def _execute(server: EmbeddedPostgres, statement: str) -> None:
    from pgflow_starter.postgres.setup.admin import session

    server.start()
    with session(server.conninfo()) as connection:
        connection.execute(statement.encode())


@contextmanager
def _told_without_traceback() -> Iterator[None]:
    """What cannot be set up here fails the test in one line, with the remedy."""
    from pgflow_starter.errors import SetupError, installing

    try:
        yield
    except SetupError as error:
        pytest.fail(f"pgflow_starter: {error}", pytrace=False)
    except ImportError as error:
        pytest.fail(f"pgflow_starter: {error}: {installing('embedded')}", pytrace=False)
