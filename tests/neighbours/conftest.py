"""A connection of somebody else's, and another runtime's worker."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from tests.neighbours.other_runtime import Admin


@pytest.fixture
def admin(database: str) -> Iterator[Admin]:
    """A connection of somebody else's."""
    with psycopg.connect(database, autocommit=True) as connection:
        yield connection
