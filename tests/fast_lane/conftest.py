"""Two databases with the same core: one for its functions, one for the fast lane."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from pgflow_starter.postgres.embedded.server import EmbeddedPostgres
from tests.fast_lane.sides import Side, side
from tests.support.databases import fresh_database


@pytest.fixture(scope="session")
def sides(server: EmbeddedPostgres, template: str) -> Iterator[tuple[Side, Side]]:
    """The core's and the fast lane's."""
    with ExitStack() as stack:
        conninfos = [stack.enter_context(fresh_database(server, template)) for _ in range(2)]
        core, fast = (stack.enter_context(side(conninfo)) for conninfo in conninfos)
        yield core, fast
