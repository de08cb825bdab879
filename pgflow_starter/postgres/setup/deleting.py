"""A stored flow out of the database, with its runs, queues and archives; and before that, what all it has."""

from __future__ import annotations

from typing import Any, NamedTuple

from psycopg import sql

from pgflow_starter.postgres.setup.admin import Connection
from pgflow_starter.postgres.setup.cascades import dependents
from pgflow_starter.postgres.setup.changing import on_stored
from pgflow_starter.postgres.stores.flow_deletion import delete_with_all
from pgflow_starter.postgres.stores.flow_queues import FlowQueues, flow_queues, ours_of_shared, queue_tables
from pgflow_starter.postgres.stores.living_workers import LivingWorker, living_workers
from pgflow_starter.postgres.stores.stored_flow import StoredFlow

_RUNS = "select status, count(*) from pgflow.runs where flow_slug = %s group by status order by status"


class Holdings(NamedTuple):
    """What a stored flow has: runs by status, messages in its queues and archives, who works on them, rows of other
    people's tables that go with it, and the flows that have its queues, too."""

    database: str
    steps: int
    runs: dict[str, int]
    queued: int
    archived: int
    workers: list[LivingWorker]
    dependents: dict[str, int | None]
    namesakes: list[str]

    @property
    def unfinished(self) -> int:
        """How many runs are neither completed nor failed."""
        return sum(count for status, count in self.runs.items() if status not in ("completed", "failed"))


def holdings(conninfo: str, slug: str) -> Holdings:
    """What would be deleted, and that this role may do it; changes nothing. Takes and raises as `on_stored`."""

    def found(connection: Connection, stored: StoredFlow) -> Holdings:
        queues = flow_queues(connection, slug)
        rows: list[Any] = connection.execute(_RUNS, [slug]).fetchall()
        return Holdings(
            database=connection.info.dbname,
            steps=len(stored.steps),
            runs=dict(rows),
            queued=_count(connection, "q", queues, slug),
            archived=_count(connection, "a", queues, slug),
            workers=living_workers(connection, slug),
            dependents=dependents(connection, slug),
            namesakes=queues.namesakes if queues.shared else [],
        )

    return on_stored(conninfo, slug, "delete", found, locked=False)


def delete_flow(conninfo: str, slug: str) -> int:
    """Delete the flow with its runs, queues and archives, whoever works on them; how many runs it were.

    As `delete_with_all`. Takes and raises as `on_stored`.
    """
    return on_stored(conninfo, slug, "delete", lambda connection, _: delete_with_all(connection, slug))


def _count(connection: Connection, prefix: str, queues: FlowQueues, slug: str) -> int:
    """The flow's messages in its queues, or in their archives."""
    counts = [
        sql.SQL("select count(*) from pgmq.{} {}").format(sql.Identifier(table), condition)
        for names, condition in ((queues.own, sql.SQL("")), (queues.shared, ours_of_shared(slug)))
        for table in queue_tables(connection, prefix, names)
    ]
    rows: list[Any] = [connection.execute(count).fetchone() for count in counts]
    return sum(row[0] for row in rows)
