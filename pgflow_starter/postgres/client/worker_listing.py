"""The workers that the database knows, of all processes."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from pgflow_starter.core.views import WorkerRow
from pgflow_starter.postgres.client.steps import moment
from pgflow_starter.postgres.connections.connection import Connection
from pgflow_starter.postgres.stores.worker_rows import STOPPED

MOST = 2_000
"""Workers that are listed, those that were heard of last."""

# By pgflow's index on heartbeats. Ours beat every 10 s unless told otherwise, and say on older cores that they have
# stopped by a deprecation behind which they are silent.
_LISTED = f"""
select w.worker_id::text, w.queue_name, w.function_name, extract(epoch from w.started_at)::float8,
       extract(epoch from w.last_heartbeat_at)::float8, extract(epoch from w.deprecated_at)::float8,
       w.last_heartbeat_at > now() - interval '60 s' and not {STOPPED}
       and not coalesce(w.deprecated_at >= w.last_heartbeat_at, false)
from (select l.* from pgflow.workers l where l.last_heartbeat_at > now() - interval '1 hour'
      order by l.last_heartbeat_at desc limit %(most)s) w
"""  # noqa: S608 - constants


def workers_listed(conn: Connection) -> tuple[WorkerRow, ...]:
    """Those that live, or were heard of within an hour; the last heard first. Raises psycopg's errors."""
    rows: list[Any] = conn.execute(_LISTED, {"most": MOST}).fetchall()
    return tuple(map(_row, rows))


def _row(row: Any) -> WorkerRow:
    worker, queue, function, started, heard, deprecated, alive = row
    times = [moment(at, "", []) for at in (started, heard, deprecated)]
    return WorkerRow(UUID(worker), queue, function, times[0], times[1], times[2], alive)
