"""Each test here runs on each core: 0.8.1 and the stand-ins, or the one in the folder that PGFLOW_CORE names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import psycopg
import pytest

from pgflow_starter.postgres.embedded.server import EmbeddedPostgres
from tests.cores.by_steps import compiled
from tests.cores.stand_in import CORES, INSTALLED, Admin, cores_since, upgrade
from tests.support.databases import fresh_database


@pytest.fixture(scope="session")
def templates(server: EmbeddedPostgres, template: str) -> Iterator[Callable[[str], str]]:
    """The name of a database with that core, to be copied; made when it is asked for first."""
    made = {INSTALLED: template}
    with ExitStack() as databases:

        def template_of(core: str) -> str:
            if core not in made:
                conninfo = databases.enter_context(fresh_database(server, template))
                upgrade(conninfo, core)
                made[core] = conninfo.rpartition("dbname=")[2]
            return made[core]

        yield template_of


@pytest.fixture(params=CORES)
def core(request: pytest.FixtureRequest) -> str:
    """Which core the test's database has."""
    return str(request.param)


@pytest.fixture
def database(server: EmbeddedPostgres, core: str, templates: Callable[[str], str]) -> Iterator[str]:
    """The connection string of a fresh database with that core."""
    with fresh_database(server, templates(core)) as conninfo:
        yield conninfo


def _fresh_since(version: str) -> Any:
    """A fixture: the connection string of a fresh database with a core that is as new, for what no older one has."""

    @pytest.fixture(params=cores_since(version))
    def fresh(
        server: EmbeddedPostgres, request: pytest.FixtureRequest, templates: Callable[[str], str]
    ) -> Iterator[str]:
        with fresh_database(server, templates(request.param)) as conninfo:
            yield conninfo

    return fresh


newer_database = _fresh_since("0.14")
cancelling_database = _fresh_since("0.15.1")
queues_database = _fresh_since("0.17")


@pytest.fixture
def admin(database: str) -> Iterator[Admin]:
    """A connection to the database, to look and to interfere with."""
    with psycopg.connect(database, autocommit=True) as connection:
        yield connection


@pytest.fixture
def by_steps(queues_database: str) -> Iterator[Admin]:
    """Another runtime's connection to it; it has compiled the shop with a queue for each step."""
    with psycopg.connect(queues_database, autocommit=True) as connection:
        assert compiled(connection) == "compiled"
        yield connection
