"""Runs that a client ends, told to who watches: below whom, say the messages that they had."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any
from uuid import UUID

import psycopg
from psycopg import sql

from pgflow_starter.core.runs import EndedRun
from pgflow_starter.errors import PgflowError
from pgflow_starter.postgres.client.calls import Calls
from pgflow_starter.postgres.client.run import Run
from pgflow_starter.postgres.connections.connection import Connection

if TYPE_CHECKING:
    from pgflow_starter.ports import MessageObserver

logger = logging.getLogger("pgflow_starter.client")

# Of one of its first steps: who started the run has seen to it.
_FIRST_MESSAGE = """
select coalesce(pg_catalog.to_jsonb(t) ->> 'queue_name'::text, t.flow_slug), t.message_id from pgflow.step_tasks t
where t.run_id = %s::uuid and t.message_id is not null order by t.queued_at, t.step_slug, t.task_index limit 1
"""
_HEADERS = """
select pg_catalog.to_jsonb(q) ->> 'headers'::text from pgmq.{queue} q where q.msg_id = %(id)s::bigint
union all
select pg_catalog.to_jsonb(a) ->> 'headers'::text from pgmq.{archive} a where a.msg_id = %(id)s::bigint
"""


def tell_cancelled(calls: Calls, observer: MessageObserver, row: Any) -> None:
    """A run has ended by the transaction that gave this row of `ENDED`. Blocks on I/O; raises nothing for its sake."""
    try:
        headers = calls.resending(lambda conn: _headers(conn, row[0]))
    except (PgflowError, psycopg.Error) as error:
        logger.debug("run %s: nobody says who started it: %s", row[0], error)
        return
    if headers is not None and (carried := observer.carried(headers)) is not None:
        observer.ended([EndedRun._make((*row, carried))])


def tell_over_at_once(observer: MessageObserver, runs: Iterable[Run], headers: str) -> None:
    """Those of these runs that have just been started, with these headers, and have ended already."""
    over = {run.id: run for run in runs if run.finished and not run.found}
    observer.ended(
        [
            EndedRun(run.id, run.flow_slug, run.status, run.started_at.timestamp(), run.ended_at.timestamp(), headers)
            for run in over.values()
            if run.status != "started" and run.started_at is not None and run.ended_at is not None
        ]
    )


def _headers(conn: Connection, run_id: UUID) -> str | None:
    first: Any = conn.execute(_FIRST_MESSAGE, (run_id,)).fetchone()
    if first is None:
        return None
    queue, message = first
    tables = {"queue": sql.Identifier(f"q_{queue.lower()}"), "archive": sql.Identifier(f"a_{queue.lower()}")}
    row: Any = conn.execute(sql.SQL(_HEADERS).format(**tables), {"id": message}).fetchone()
    headers: str | None = None if row is None else row[0]
    return headers
