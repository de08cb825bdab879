"""Workers that have a stored flow and live, whoever runs them."""

from __future__ import annotations

from typing import Any, NamedTuple
from uuid import UUID

from pgflow_starter.postgres.connections.connection import Connection
from pgflow_starter.postgres.stores.stored_flow import NEIGHBOUR_HEARD
from pgflow_starter.postgres.stores.worker_rows import OURS, STOPPED

OURS_HEARD = 60
"""Seconds since its last heartbeat after which a worker of ours, which sends one every few seconds, is gone."""

# Of the flow's queue, or of its steps' where each has its own.
_WORKERS = f"""
select w.worker_id, w.function_name, {OURS}, extract(epoch from now() - w.last_heartbeat_at)::float8
from pgflow.workers w
where (w.queue_name = %(slug)s
       or w.queue_name in (select pg_catalog.to_jsonb(s) ->> 'queue_name'::text
                           from pgflow.steps s where s.flow_slug = %(slug)s))
  and w.deprecated_at is null and not {STOPPED}
  and w.last_heartbeat_at > now() - case when {OURS} then interval '{OURS_HEARD} s'
                                         else interval '{NEIGHBOUR_HEARD} s' end
order by 4, 1
"""  # noqa: S608 - constants


class LivingWorker(NamedTuple):
    """Of another runtime it is known by the name of its edge function. `heard`: seconds since its last heartbeat."""

    worker_id: UUID
    function_name: str
    ours: bool
    heard: float

    @property
    def told(self) -> str:
        """In words."""
        whose = "pgflow_starter" if self.ours else f"edge function {self.function_name!r}"
        return f"{self.worker_id} of {whose}, heard of {self.heard:.0f} s ago"


def living_workers(conn: Connection, slug: str) -> list[LivingWorker]:
    """Those of the flow of that slug; who was heard of last first. Raises psycopg's errors."""
    rows: list[Any] = conn.execute(_WORKERS, {"slug": slug}).fetchall()
    return [LivingWorker(*row) for row in rows]
