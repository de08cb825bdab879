"""The messages of runs that this transaction has just started: what they carry, and from when on they are visible."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cache
from typing import Any
from uuid import UUID

import psycopg
from psycopg import sql

from pgflow_starter.core.due import Due
from pgflow_starter.errors import MissingRightsError
from pgflow_starter.postgres.connections.connection import Connection
from pgflow_starter.postgres.stores.features import on_queue

logger = logging.getLogger("pgflow_starter.client")

# pgflow sends messages without headers. Those of a run that was just started get theirs, with which a trace context
# travels, in the same transaction; who settles a step gives it to the messages of those that follow. pgmq before 1.5
# knows no headers. Of the flow's queues, of each root step's where each step has one, those whose messages know some.
_HAVE_HEADERS = """
select q.name, q.of_step
from (select distinct case when given.of_step then pg_catalog.to_jsonb(s) ->> 'queue_name'::text
                           else f.flow_slug end as name, given.of_step
      from pgflow.flows f join pgflow.steps s on s.flow_slug = f.flow_slug,
           lateral (select coalesce(pg_catalog.to_jsonb(f) ->> 'queue_mode'::text = 'step', false) as of_step) given
      where f.flow_slug = %s and s.deps_count = 0) q
where exists (select from pg_attribute
              where attrelid = to_regclass('pgmq.' || quote_ident('q_' || q.name))::oid and attname = 'headers'
              and not attisdropped)
"""
_SET = """
update pgmq.{queue} set headers = coalesce(headers, '{{}}') || %s::jsonb
where msg_id in (select {message} from pgflow.step_tasks t where t.run_id = any(%s::uuid[]) and t.queued_at = now()
                 {of_queue})
"""
_SET_OF_RERUNS = """
update pgmq.{queue} q
set headers = coalesce(q.headers, '{{}}') || %s::jsonb || pg_catalog.jsonb_build_object('pgflow_rerun_of', m.rerun_of)
from (select {message} as msg_id, o.rerun_of
      from unnest(%s::uuid[], %s::text[]) as o(run_id, rerun_of) join pgflow.step_tasks t on t.run_id = o.run_id
      where t.queued_at = now() {of_queue}) m
where q.msg_id = m.msg_id
"""
_OF_QUEUE = "and t.queue_name = {name}"
# Fails where each step has a queue: the one of the flow's name, and its message of that number, are not the run's.
_OF_FLOW = """case when (select pg_catalog.to_jsonb(f) ->> 'queue_mode'::text from pgflow.flows f
                                   where f.flow_slug = {name}::text) = 'step'
                             then (t.flow_slug || ' has no queue'::text)::bigint else t.message_id end"""

# The queues that have some: of the steps that began at once where each step has one, whether roots or behind steps that
# were left out. Older cores have no such column.
_QUEUES = """
select distinct coalesce(pg_catalog.to_jsonb(t) ->> 'queue_name'::text, t.flow_slug) from pgflow.step_tasks t
where t.run_id = any(%(run_ids)s::uuid[]) and t.queued_at = now()
"""
# Fails where one of them stays as it was, hidden by row level security, or a run that has some seems to have none.
_HIDE = """
with new as materialized (
    select t.message_id from pgflow.step_tasks t
    where t.run_id = any(%(run_ids)s::uuid[]) and t.queued_at = now()
      and coalesce(pg_catalog.to_jsonb(t) ->> 'queue_name'::text, t.flow_slug) = %(queue)s::text
), due as materialized (
    select greatest(%(at)s::text::timestamptz,
                    clock_timestamp() + pg_catalog.make_interval(secs => %(delay)s::float8)) as vt
), hidden as (
    update pgmq.{queue} q set vt = greatest(q.vt, due.vt) from due
    where q.msg_id = any(array(select message_id from new))
    returning q.msg_id
)
select case when (select count(*) from hidden) <> (select count(*) from new)
                 or not exists (select from new)
                    and exists (select from pgflow.runs r where r.run_id = any(%(run_ids)s::uuid[])
                                and r.status = 'started' and r.started_at = now())
            then pg_catalog.concat('not hidden, of ', (select count(*) from new))::integer end
"""


@cache
def _setting(queue: str, *, of_step: bool, reruns: bool = False) -> str:
    name = sql.Literal(queue)
    message = sql.SQL("t.message_id" if of_step else _OF_FLOW).format(name=name)
    of_queue = sql.SQL(_OF_QUEUE if of_step else "").format(name=name)
    statement = sql.SQL(_SET_OF_RERUNS if reruns else _SET)
    return statement.format(queue=sql.Identifier(f"q_{queue}"), message=message, of_queue=of_queue).as_string()


def set_headers(
    conn: Connection, slug: str, run_ids: Sequence[UUID], headers: str, rerun_of: Sequence[UUID] = ()
) -> bool:
    """Add them, a JSON object, to the messages of runs that this transaction has started. Blocks on I/O.

    Where each run is a `rerun_of` another, add that. Where it may not be, by a role without UPDATE say, the runs are
    started all the same. Whether each step of the flow has a queue is returned.
    """
    given: list[Any] = [headers, [str(run_id) for run_id in run_ids]]
    given += [[str(run_id) for run_id in rerun_of]] if rerun_of else []
    try:
        with conn.transaction():
            found: list[Any] = conn.execute(_HAVE_HEADERS, (slug,)).fetchall()
            for queue, of_step in found:
                conn.execute(_setting(queue, of_step=of_step, reruns=bool(rerun_of)), given)
            return any(of_step for _, of_step in found)
    except (psycopg.DataError, psycopg.ProgrammingError) as error:
        logger.debug("%s: no headers on messages: %s", slug, error)
        return False


def hide(conn: Connection, slug: str, run_ids: Sequence[UUID], due: Due, *, some: bool) -> bool:
    """Have the messages of runs that this transaction has started visible when they are due, not before.

    `some` says that there are some. Whether each step of the flow has a queue is returned. Blocks on I/O. Raises
    MissingRightsError, which is to undo the start, psycopg's errors.
    """
    ids = [str(run_id) for run_id in run_ids]
    try:
        rows: list[Any] = conn.execute(_QUEUES, {"run_ids": ids}).fetchall()
        queues = [row[0] for row in rows]
        for queue in queues or [slug] * some:
            conn.execute(*_hiding(queue, ids, due))
    except (psycopg.errors.InsufficientPrivilege, psycopg.errors.InvalidTextRepresentation) as error:
        denied = isinstance(error, psycopg.errors.InsufficientPrivilege)
        why = error.diag.message_primary if denied else "row level security hides some of them"
        msg = (
            f"nothing was started: a run of flow {slug!r} is delayed by an update of its messages, which this role"
            f" cannot do ({why}). It needs SELECT and UPDATE on pgmq.q_{slug}, SELECT on pgflow.step_tasks and"
            " pgflow.runs, and where row level security is on a policy for it"
        )
        raise MissingRightsError(msg) from error
    return queues not in ([], [slug])


def at_once(slug: str, run_ids: Sequence[str], headers: str | None, due: Due | None) -> list[tuple[str, Any]]:
    """The statements for a flow with one queue, with their parameters, to be sent behind the one that starts its runs.

    They fail where more is to be done, or said, for it.
    """
    statements: list[tuple[str, Any]] = []
    if due is not None:
        statements.append(_hiding(slug, run_ids, due))
    if headers is not None:
        statements.append((_setting(slug, of_step=False), (headers, run_ids)))
    return statements


def _hiding(queue: str, run_ids: Sequence[str], due: Due) -> tuple[str, dict[str, Any]]:
    return on_queue(_HIDE, queue), {"run_ids": run_ids, "queue": queue, "delay": due.delay, "at": due.at}
