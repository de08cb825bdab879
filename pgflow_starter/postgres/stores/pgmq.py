"""pgmq's notifications: enable, and whether they are as wanted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg

from pgflow_starter.errors import MissingRightsError
from pgflow_starter.postgres.connections.connection import Connection

# How long creating or enabling waits for other sessions on the queue before it counts as failed (SQLSTATE 55P03).
LIMIT_LOCKS = "set local lock_timeout = '2s'"

# Queues that have both trigger and throttle row; the table is UNLOGGED, so a crash of the server empties it.
_THROTTLES = """
select n.queue_name, n.throttle_interval_ms from pgmq.notify_insert_throttle n
where n.queue_name::text = any(%s::text[])
  and exists (select from pg_trigger
              where tgrelid = to_regclass(pg_catalog.format('pgmq.%%I', 'q_' || n.queue_name::text))::oid
              and tgname = 'trigger_notify_queue_insert_listeners' and tgenabled in ('O', 'A'))
"""

# Enabling is not safe for concurrent calls on one queue (deadlocks), unless the queue's lock is taken first.
_LOCK_QUEUE = "select pgmq.acquire_queue_lock(%(queue)s::text)"
# pgmq drops and makes the trigger anew, which only the queue's owner may: one that is there stays.
_ENABLE = """
with there as materialized (
    select exists (select from pg_catalog.pg_trigger
                   where tgrelid = pg_catalog.to_regclass(pg_catalog.format('pgmq.%%I', 'q_' || %(queue)s::text))::oid
                     and tgname = 'trigger_notify_queue_insert_listeners' and tgenabled in ('O', 'A')) as trigger
), throttled as (
    insert into pgmq.notify_insert_throttle as n (queue_name, throttle_interval_ms)
    select %(queue)s, %(throttle_ms)s from there where trigger
    on conflict (queue_name) do update
    set throttle_interval_ms = excluded.throttle_interval_ms, last_notified_at = pg_catalog.to_timestamp(0)
)
select case when not trigger then pgmq.enable_notify_insert(%(queue)s::text, %(throttle_ms)s::integer) end from there
"""
# The table and its owner, where its trigger is turned off.
_TURNED_OFF = """
select pg_catalog.format('pgmq.%%I', c.relname), pg_catalog.pg_get_userbyid(c.relowner)::text
from pg_catalog.pg_trigger t join pg_catalog.pg_class c on c.oid = t.tgrelid
where c.oid = pg_catalog.to_regclass(pg_catalog.format('pgmq.%%I', 'q_' || %s::text))::oid
  and t.tgname = 'trigger_notify_queue_insert_listeners' and t.tgenabled not in ('O', 'A')
"""


def channel(queue: str) -> str:
    """The NOTIFY channel of a queue, to be quoted as an identifier."""
    return f"pgmq.q_{queue}.INSERT"


def notify(conn: Connection, name: str) -> None:
    """Send an empty notification to a channel."""
    conn.execute("select pg_notify(%s, '')", (name,))


def enable_notify(conn: Connection, queue: str, throttle_ms: int) -> bool:
    """Let inserts notify at most every `throttle_ms`; False when that was so already. Waits 2 s for a lock."""
    if throttles(conn, [queue]).get(queue) == throttle_ms:
        return False
    enable_notify_anew(conn, queue, throttle_ms)
    return True


def enable_notify_anew(conn: Connection, queue: str, throttle_ms: int) -> None:
    """The same without a look at what is so already. Raises MissingRightsError where only the owner can."""
    wanted = {"queue": queue, "throttle_ms": throttle_ms}
    try:
        with conn.pipeline(), conn.transaction():
            conn.execute(LIMIT_LOCKS)
            conn.execute(_LOCK_QUEUE, wanted)
            conn.execute(_ENABLE, wanted)
    except psycopg.errors.InsufficientPrivilege:
        row: Any = conn.execute(_TURNED_OFF, (queue,)).fetchone()
        if row is None:
            raise
        table, owner = row
        raise MissingRightsError(
            f"the trigger by which {table} notifies is turned off, and only the table's owner, role {owner!r}, may turn"
            f" it on again: ALTER TABLE {table} ENABLE TRIGGER trigger_notify_queue_insert_listeners"
        ) from None


def throttles(conn: Connection, queues: Sequence[str]) -> dict[str, int]:
    """The milliseconds between the notifications of those of these queues that notify."""
    rows: list[Any] = conn.execute(_THROTTLES, (list(queues),)).fetchall()
    return dict(rows)
