"""Two databases with the same core: one for its functions, one for the fast lane."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from pgflow_starter.postgres.connections.connection import Connection
from pgflow_starter.postgres.embedded.server import EmbeddedPostgres
from tests.fast_lane.histories import Side
from tests.fast_lane.rows import EVENTS
from tests.support.databases import fresh_database


@pytest.fixture(scope="session")
def sides(server: EmbeddedPostgres, template: str) -> Iterator[tuple[Side, Side]]:
    """The core's and the fast lane's, which keep what they send."""
    with ExitStack() as stack:
        found = []
        for _ in range(2):
            conninfo = stack.enter_context(fresh_database(server, template))
            conn = stack.enter_context(Connection.connect(conninfo, autocommit=True))
            conn.execute(EVENTS)
            found.append(Side(conn))
        yield found[0], found[1]
