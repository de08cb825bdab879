"""A stored flow out of the database, with its runs, queues and archives, whoever works on them."""

from __future__ import annotations

from psycopg import sql

from pgflow_starter.postgres.connections.connection import Connection
from pgflow_starter.postgres.stores import pgmq
from pgflow_starter.postgres.stores.features import Catalog
from pgflow_starter.postgres.stores.flow_queues import FlowQueues, flow_queues, ours_of_shared, queue_tables

# What others lock, in their order: who records an outcome has its run first, then, for steps that come next, the flow;
# who starts a run has the flow first; who claims has the queue first, then its tasks. So nobody waits in a circle, but
# for runs that come in between: for them we do not wait long enough to be part of one.
_LOCK_RUNS = "select run_id from pgflow.runs where flow_slug = %s order by run_id for update"
_LOCK_FLOW = "select from pgflow.flows where flow_slug = %s for update"
_HURRY = "set local lock_timeout = '200ms'"
_LOCK_QUEUE = "select pgmq.acquire_queue_lock(%s::text)"
_LOCK_TABLE = "lock table pgmq.{} in access exclusive mode"

_BY_CORE = "select pgflow.delete_flow_and_data(%s::text)"
# What that does, where the core is older; in the order of the foreign keys.
_DROP_QUEUE = "select pgmq.drop_queue(%s::text)"
_BY_HAND = (
    "delete from pgflow.step_tasks where flow_slug = %s",
    "delete from pgflow.step_states where flow_slug = %s",
    "delete from pgflow.runs where flow_slug = %s",
    "delete from pgflow.deps where flow_slug = %s",
    "delete from pgflow.steps where flow_slug = %s",
    "delete from pgflow.flows where flow_slug = %s",
)
# A name in capitals is listed beside the other one, but where the core writes small letters for both.
_UNLIST = """
delete from pgmq.meta m where m.queue_name::text = %(slug)s and exists (
    select from pgmq.meta o
    where o.queue_name::text <> m.queue_name::text
      and pg_catalog.lower(o.queue_name::text) = pg_catalog.lower(m.queue_name::text))
"""


def delete_with_all(conn: Connection, slug: str) -> int:
    """Delete the flow, of which this transaction has the core's lock; how many runs it were.

    By the core's own function where it has one. Of a queue that another flow has, too, its messages alone. Raises
    MissingRightsError, and psycopg's errors, LockNotAvailable within seconds.
    """
    there = Catalog(conn).functions
    queues, runs = _lock(conn, slug, there)
    statements = [_BY_CORE] if "pgflow.delete_flow_and_data" in there else [_DROP_QUEUE, *_BY_HAND]
    if queues.shared:
        _take_out(conn, slug, queues)
        statements = [*_BY_HAND]
    for statement in statements:
        conn.execute(statement, [slug])
    return runs


def _take_out(conn: Connection, slug: str, queues: FlowQueues) -> None:
    """Its messages out of the queues that stay, and the queues that do not."""
    for table in queue_tables(conn, "qa", queues.shared):
        conn.execute(sql.SQL("delete from pgmq.{} {}").format(sql.Identifier(table), ours_of_shared(slug)))
    for queue in queues.own:
        conn.execute(_DROP_QUEUE, [queue])
    conn.execute(_UNLIST, {"slug": slug})


def _lock(conn: Connection, slug: str, functions: set[str]) -> tuple[FlowQueues, int]:
    """All that is to go; the queues, and the number of runs."""
    conn.execute(_LOCK_RUNS, [slug])
    conn.execute(_LOCK_FLOW, [slug])
    conn.execute(_HURRY)
    runs = conn.execute(_LOCK_RUNS, [slug]).rowcount
    conn.execute(pgmq.LIMIT_LOCKS)
    queues = flow_queues(conn, slug)
    names = sorted(queues.own + queues.shared)
    for queue in names if "pgmq.acquire_queue_lock" in functions else ():
        conn.execute(_LOCK_QUEUE, [queue])
    for queue in names:
        conn.execute(sql.SQL(_LOCK_TABLE).format(sql.Identifier(f"q_{queue}")))
    return queues, runs
