"""The queues of all flows: how much is in each, and how much was ever done with."""

from __future__ import annotations

from typing import Any

from pgflow_starter.core.views import FlowQueue
from pgflow_starter.postgres.connections.connection import Connection
from pgflow_starter.postgres.stores.queue_depths import depths

MOST = 2_000
"""Queues that are looked into at all."""

# The server counts what was ever put into an archive, a second late at most. Whole rows, for older cores have no such
# columns.
_QUEUES = """
select n.flow_slug, n.step_slug, n.name,
       coalesce(pg_stat_get_tuples_inserted(
           to_regclass(pg_catalog.format('pgmq.%%I', 'a_' || pg_catalog.lower(n.name)))::oid), 0)
from (select f.flow_slug, s.step_slug, coalesce(to_jsonb(s) ->> 'queue_name'::text, f.flow_slug) as name
      from pgflow.flows f left join pgflow.steps s
          on s.flow_slug = f.flow_slug and to_jsonb(f) ->> 'queue_mode'::text = 'step') n
order by n.flow_slug, n.name limit %(most)s
"""


def queues_listed(conn: Connection) -> tuple[FlowQueue, ...]:
    """Those that the role may read, by flow and name, but for a few that are locked. Raises psycopg's errors."""
    rows: list[Any] = conn.execute(_QUEUES, {"most": MOST}).fetchall()
    found = {depth.queue: depth for depth in depths(conn, [name for *_, name, _ in rows])}
    return tuple(FlowQueue(flow, step, found[name], archived) for flow, step, name, archived in rows if name in found)
