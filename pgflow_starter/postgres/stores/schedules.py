"""What the database knows of a schedule: since when it has the flow, and which of its runs."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from pgflow_starter.postgres.connections.database import Database

# No row for a flow that is not there. In forms that no DateStyle changes.
_KNOWN = """
select extract(epoch from f.created_at)::float8,
       array(select r.run_id::text from pgflow.runs r where r.run_id = any(%s::uuid[]))
from pgflow.flows f where f.flow_slug = %s
"""


class PostgresScheduleStore:
    """Reads, and writes nothing. Blocks on I/O; thread-safe."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def known(self, slug: str, run_ids: Sequence[UUID]) -> tuple[datetime | None, frozenset[UUID]]:
        """Since when the database has the flow, None where it has not; those of the runs that are there.

        Raises DatabaseError.
        """
        given = [str(run_id) for run_id in run_ids]
        rows: list[Any] = self._database.call(lambda conn: conn.execute(_KNOWN, (given, slug)).fetchall())
        for since, found in rows:
            with suppress(OverflowError, ValueError):  # beyond what Python can express: whenever that is, not yet
                return datetime.fromtimestamp(since, UTC), frozenset(map(UUID, found))
        return None, frozenset()
