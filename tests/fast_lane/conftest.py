"""Two databases with the same core: one for its functions, one for the fast lane."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from pgflow_starter.postgres.embedded.server import EmbeddedPostgres
from tests.fast_lane.sides import Side, prepare, side
from tests.support.databases import fresh_database


@pytest.fixture(scope="session")
def conninfos(server: EmbeddedPostgres, template: str) -> Iterator[list[str]]:
    """Two databases: the core's and the fast lane's."""
    with ExitStack() as stack:
        made = [stack.enter_context(fresh_database(server, template)) for _ in range(2)]
        for conninfo in made:
            prepare(conninfo)
        yield made


@pytest.fixture
def sides(conninfos: list[str]) -> Iterator[tuple[Side, Side]]:
    """The core's and the fast lane's."""
    with side(conninfos[0], fast_lane=False) as core, side(conninfos[1], fast_lane=True) as fast:
        yield core, fast
