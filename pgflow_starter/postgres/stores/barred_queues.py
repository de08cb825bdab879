"""`BarredQueues`: queues of steps in which nothing can be claimed, and which keep no other step waiting for that.

Somebody has locked the table, or has dropped the queue. Each is looked at again after a while, without waiting for the
lock; and claimed from as usual once that says that it is over.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn
from uuid import UUID

import psycopg

from pgflow_starter.core.task import Barred
from pgflow_starter.errors import DatabaseError, PgflowError, ShapeMismatchError, UnknownFlowError
from pgflow_starter.postgres.connections.connection import Connection
from pgflow_starter.postgres.connections.database import Database
from pgflow_starter.postgres.stores.features import on_queue
from pgflow_starter.postgres.stores.queues import Queue, gone

if TYPE_CHECKING:
    from pgflow_starter.ports import CancelScope

LOCKED = "55P03"

REST = 0.5
"""Seconds for which a queue that was found barred is not looked at."""

# Whether it is gone, by the table or by pgmq's own list, while worker and step are there and the step still has it.
_GONE = """
select exists (select from pgflow.workers where worker_id = %(worker)s::uuid)
   and exists (select from pgflow.steps s
               where s.flow_slug = %(flow)s::text and s.step_slug = %(step)s::text
                 and pg_catalog.to_jsonb(s) ->> 'queue_name'::text = %(queue)s::text)
   and (not exists (select from pgmq.meta where queue_name::text = %(queue)s::text)
        or pg_catalog.to_regclass(pg_catalog.format('pgmq.%%I', 'q_' || %(queue)s::text)) is null)
"""
# As a claim locks it.
_LOCK = "lock table pgmq.{queue} in row exclusive mode nowait"


class _Seen(NamedTuple):
    barred: Barred
    until: float


class BarredQueues:
    """Those of a process. Thread-safe."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._seen: dict[str, _Seen] = {}

    def of(self, queues: Sequence[Queue]) -> tuple[Barred, ...]:
        """Those of these that were found barred when they were looked at last. Does not wait."""
        return tuple(seen.barred for queue in queues if (seen := self._seen.get(queue.name)) is not None)

    def bars(self, slug: str, worker_id: UUID, queue: Queue, scope: CancelScope) -> bool:
        """Whether the queue was found barred, and is so still; looked at where that was not just now.

        Blocks on I/O then. Raises DatabaseError.
        """
        seen = self._seen.get(queue.name)
        if seen is None or self._database.clock.monotonic() < seen.until:
            return seen is not None
        return self.look(slug, worker_id, queue, scope)

    def look(self, slug: str, worker_id: UUID, queue: Queue, scope: CancelScope) -> bool:
        """Whether the queue of a step is barred. Waits for no lock on it; blocks on I/O. Raises DatabaseError."""
        given = {"flow": slug, "worker": worker_id, "step": queue.step, "queue": queue.name}
        found = self._database.call(lambda conn: _found(conn, given), scope)
        if found is None:
            self._seen.pop(queue.name, None)
            return False
        barred = Barred(str(queue.step), *found)
        self._seen[queue.name] = _Seen(barred, self._database.clock.monotonic() + REST)
        return True

    def explains(self, error: PgflowError, slug: str, worker_id: UUID, queue: Queue, scope: CancelScope) -> bool:
        """Whether that is why claiming there failed. As `look`, but raises nothing."""
        if isinstance(error, DatabaseError) and error.connection_lost:
            return False
        try:
            return self.look(slug, worker_id, queue, scope)
        except DatabaseError:
            return False

    def refuse(self, slug: str, queues: Sequence[Queue]) -> NoReturn:
        """Raise what is wrong with these, of which each is barred: UnknownFlowError where all are gone."""
        barred = self.of(queues)
        locked = [b for b in barred if b.error_type == LOCKED]
        if locked:
            raise DatabaseError(locked[0].reason, sqlstate=LOCKED)
        for queue in queues:  # they are claimed from again when their worker has registered again
            self._seen.pop(queue.name, None)
        raise UnknownFlowError(gone(slug, [queue.name for queue in queues]))


def _found(conn: Connection, given: dict[str, Any]) -> tuple[str, str] | None:
    """Why tasks of that step cannot be claimed, and its SQLSTATE. Raises psycopg's errors."""
    if conn.execute(_GONE, given).fetchone() == (True,):
        return gone(given["flow"], [given["queue"]]), ShapeMismatchError.__name__  # as registering it says
    try:
        with conn.transaction():
            conn.execute(on_queue(_LOCK, given["queue"]))
    except psycopg.errors.LockNotAvailable:
        return f"pgmq.q_{given['queue']} is locked", LOCKED
    return None
