"""pgmq's notifications: enable, disable, and whether they are as wanted."""

from __future__ import annotations

from pgflow_starter.postgres.connection import Connection

# How long creating or enabling waits for other sessions on the queue before it counts as failed (SQLSTATE 55P03).
LIMIT_LOCKS = "set local lock_timeout = '2s'"

# True when trigger and throttle row are as wanted; the table is UNLOGGED, so a crash of the server empties it.
_ENABLED = """
select exists (select from pg_trigger where tgrelid = to_regclass(format('pgmq.%%I', 'q_' || %(queue)s::text))
               and tgname = 'trigger_notify_queue_insert_listeners' and tgenabled <> 'D')
   and exists (select from pgmq.notify_insert_throttle
               where queue_name = %(queue)s and throttle_interval_ms = %(throttle_ms)s)
"""

# Enabling is not safe for concurrent calls on one queue (deadlocks), unless the queue's lock is taken first.
_LOCK_QUEUE = "select pgmq.acquire_queue_lock(%(queue)s)"
_ENABLE = "select pgmq.enable_notify_insert(%(queue)s, %(throttle_ms)s)"
_DISABLE = "select pgmq.disable_notify_insert(%(queue)s)"


def channel(queue: str) -> str:
    """The NOTIFY channel of a queue, to be quoted as an identifier."""
    return f"pgmq.q_{queue}.INSERT"


def notify(conn: Connection, name: str) -> None:
    """Send an empty notification to a channel."""
    conn.execute("select pg_notify(%s, '')", (name,))


def enable_notify(conn: Connection, queue: str, throttle_ms: int) -> bool:
    """Let inserts notify at most every `throttle_ms`; False when that was so already. Waits 2 s for a lock."""
    wanted = {"queue": queue, "throttle_ms": throttle_ms}
    row = conn.execute(_ENABLED, wanted).fetchone()
    if row is not None and row[0]:
        return False
    with conn.transaction():
        conn.execute(LIMIT_LOCKS)
        conn.execute(_LOCK_QUEUE, wanted)
        conn.execute(_ENABLE, wanted)
    return True


def disable_notify(conn: Connection, queue: str) -> None:
    """Let inserts notify no more."""
    with conn.transaction():
        conn.execute(LIMIT_LOCKS)
        conn.execute(_LOCK_QUEUE, {"queue": queue})
        conn.execute(_DISABLE, {"queue": queue})
