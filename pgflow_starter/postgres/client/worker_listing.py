"""The workers that the database knows, of all processes."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from pgflow_starter.core.views import WorkerRow
from pgflow_starter.postgres.client.steps import moment
from pgflow_starter.postgres.connections.connection import Connection
from pgflow_starter.postgres.stores.worker_rows import STOPPED

MOST = 2_000
"""Workers that are listed, those that were heard of last; and one of each flow, that lives where one does."""

# By pgflow's index on heartbeats. Ours beat every 10 s unless told otherwise, and say on older cores that they have
# stopped by a deprecation behind which they are silent.
_LISTED = f"""
select r.worker_id::text, r.queue_name, r.function_name, extract(epoch from r.started_at)::float8,
       extract(epoch from r.last_heartbeat_at)::float8, extract(epoch from r.deprecated_at)::float8, r.alive
from (select h.*, row_number() over (partition by h.queue_name order by h.alive desc, h.last_heartbeat_at desc) as nth,
             row_number() over (order by h.last_heartbeat_at desc) as of_all
      from (select w.*, w.last_heartbeat_at > now() - interval '60 s' and not {STOPPED}
                        and not coalesce(w.deprecated_at >= w.last_heartbeat_at, false) as alive
            from pgflow.workers w where w.last_heartbeat_at > now() - interval '1 hour') h) r
where r.nth = 1 or r.of_all <= %(most)s
order by r.last_heartbeat_at desc
"""  # noqa: S608 - constants


def workers_listed(conn: Connection) -> tuple[WorkerRow, ...]:
    """Those that live, or were heard of within an hour; the last heard first. Raises psycopg's errors."""
    rows: list[Any] = conn.execute(_LISTED, {"most": MOST}).fetchall()
    return tuple(map(_row, rows))


def _row(row: Any) -> WorkerRow:
    worker, queue, function, started, heard, deprecated, alive = row
    times = [moment(at, "", []) for at in (started, heard, deprecated)]
    return WorkerRow(UUID(worker), queue, function, times[0], times[1], times[2], alive)
