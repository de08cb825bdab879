"""`Starts`: runs are started, many in one statement, on a pooled connection or in a caller's transaction."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache, partial
from typing import Any, NamedTuple
from uuid import UUID

import psycopg
from psycopg import sql
from psycopg.pq import TransactionStatus

from pgflow_starter.core.definition import FlowDefinition
from pgflow_starter.errors import DatabaseError, OutcomeUnknownError, PgflowError, UnknownFlowError
from pgflow_starter.ports import MessageObserver
from pgflow_starter.postgres.client.callers_transaction import callers_transaction
from pgflow_starter.postgres.client.calls import Calls, with_remedy
from pgflow_starter.postgres.client.run import COLUMNS, FIND, Run, RunReader, run_of
from pgflow_starter.postgres.connections.connection import Connection
from pgflow_starter.postgres.stores.fast_lane.lane import FastLane
from pgflow_starter.postgres.stores.flows import compile_flow

logger = logging.getLogger("pgflow_starter.client")

SMALL = 10_000
"""Characters of input up to which one run is started within the time for which a server may be silent."""

LARGE_ANSWERS = 20
"""Times as long as that what is larger, or more than one, may take."""

TRIES = 10
"""Times that runs are started which others start at the same moment."""

_AGAIN = (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure)

_REPEAT = "it may be carried out all the same; the same call with run_id={!r} is safe to repeat"
_REPEAT_MANY = "it may be carried out all the same; the same call with run_ids=error.run_ids is safe to repeat"

_STARTED = COLUMNS.format(error="null")
# Those that are there already are left out. start_flow is not called at all unless the statement saw the flow's steps:
# beside the flow's first compile it may see the flow by its foreign key and no steps yet, and such a run is completed
# at once with nothing done.
_START = f"""
select {_STARTED}
from unnest(%(run_ids)s::uuid[], %(inputs)s::text[]) g(run_id, input),
     lateral pgflow.start_flow(%(slug)s::text, g.input::jsonb, g.run_id) r
where exists (select from pgflow.steps where flow_slug = %(slug)s)
  and not exists (select from pgflow.runs there where there.run_id = g.run_id)
"""  # noqa: S608 - constants
# pgflow sends messages without headers. Those of a run that was just started get theirs, with which a trace context
# travels, in the same transaction; the messages of the steps that follow have none. pgmq before 1.5 knows no headers.
# Of the flow's queues, of each root step's where each step has one, those whose messages know some.
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
_OF_QUEUE = "and t.queue_name = {name}"
# Fails where each step has a queue: the one of the flow's name, and its message of that number, are not the run's.
_OF_FLOW = """case when (select pg_catalog.to_jsonb(f) ->> 'queue_mode'::text from pgflow.flows f
                                   where f.flow_slug = {name}::text) = 'step'
                             then (t.flow_slug || ' has no queue'::text)::bigint else t.message_id end"""


class Starts:
    """Starts the runs of one client. `started(slug)` is told when some were started and committed. Thread-safe."""

    def __init__(
        self, calls: Calls, observer: MessageObserver, started: Callable[[str], None], fast_lane: FastLane
    ) -> None:
        self._calls = calls
        self._fast_lane = fast_lane
        self._observer = observer
        self._started = started
        self._by_steps: set[str] = set()

    def start(
        self,
        client: RunReader,
        slug: str,
        definition: FlowDefinition | None,
        inputs: Sequence[str],
        run_ids: Sequence[UUID],
        connection: Any = None,
    ) -> list[Run]:
        """All of these runs or none, each with its input as JSON; those that are there already are returned.

        A flow that is not in the database is compiled first where its definition is known. Blocks on I/O. Raises
        UnknownFlowError, PgflowError.
        """
        with self._observer.sending(slug, run_ids) as headers:
            given = _Given(client, slug, inputs, run_ids, headers, connection is not None, set())
            if connection is None:
                return self._calls.off_main(partial(self._pooled, given, definition))
            with callers_transaction(connection) as conn:
                return self._in_transaction(conn, given, definition)

    def _in_transaction(self, conn: Connection, given: _Given, definition: FlowDefinition | None) -> list[Run]:
        try:
            return self._runs(conn, given)
        except UnknownFlowError:
            if definition is None:
                raise
            self._calls.off_main(partial(self._compile, definition))
            try:
                return self._runs(conn, given)
            except UnknownFlowError:
                msg = (
                    f"flow {given.slug!r} exists, but this transaction began before it did and cannot see it:"
                    " try in another"
                )
                raise PgflowError(msg) from None

    def _pooled(self, given: _Given, definition: FlowDefinition | None) -> list[Run]:
        def start(conn: Connection) -> list[Run]:
            try:
                return self._runs(conn, given)
            except UnknownFlowError:
                if definition is None:
                    raise
                compile_flow(conn, definition)  # before its starter came to it
                return self._runs(conn, given)

        small = len(given.run_ids) == 1 and len(given.inputs[0]) <= SMALL
        try:
            runs = self._calls.resending(start, answers=1 if small else LARGE_ANSWERS)
        except DatabaseError as error:
            if error.unknown:
                raise _unknown(error, given.run_ids) from error
            raise
        self._started(given.slug)
        return runs

    def _compile(self, definition: FlowDefinition) -> None:
        try:
            self._calls.database.call(lambda own: compile_flow(own, definition))
        except DatabaseError as error:
            raise with_remedy(error) from error

    def _runs(self, conn: Connection, given: _Given) -> list[Run]:
        tries = TRIES
        while True:
            tries -= 1
            try:
                rows = self._start(conn, given)
                return [
                    run_of(rows[run_id], given.client, committed=not given.callers, found=run_id in given.found)
                    for run_id in given.run_ids
                ]
            except psycopg.errors.UniqueViolation as error:
                # Another call has just started one of them: the next statement sees it, unless it sees the past only.
                if not tries:
                    what = f"run {given.run_ids[0]}" if len(given.run_ids) == 1 else f"one of {len(given.run_ids)} runs"
                    msg = f"{what} exists, but this transaction began before it did and cannot see it: ask for it later"
                    raise PgflowError(msg) from error
            except _AGAIN:
                if given.callers or not tries:
                    raise

    def _start(self, conn: Connection, given: _Given) -> dict[UUID, Any]:
        """The rows of all, those that were there included, by id. Raises UnknownFlowError, PgflowError."""
        parameters = {"slug": given.slug, "inputs": list(given.inputs), "run_ids": [str(r) for r in given.run_ids]}
        idle = conn.info.transaction_status == TransactionStatus.IDLE
        by_itself = idle and given.headers is None and len(given.run_ids) == 1
        one = not given.callers and len(given.run_ids) == 1 and given.slug not in self._by_steps
        if given.headers is not None and one:
            rows = self._start_with_headers(conn, given.slug, parameters, given.headers)
            if any(row[2] != "failed" for row in rows.values()):
                return rows
        # In a transaction of the caller's: a savepoint, for a run_id that is taken must not end it.
        with nullcontext() if by_itself else conn.transaction():
            rows, failed = self._start_fast(conn, parameters, nullcontext() if by_itself else conn.transaction())
            if len(rows) < len(given.run_ids):
                by_core = _by_id(conn.execute(_START, parameters).fetchall())
                if by_core and failed:
                    self._fast_lane.failed(failed)
                elif by_core:
                    self._fast_lane.left(conn)
                rows |= by_core
            if given.headers is not None and rows:
                by_steps = set_headers(conn, given.slug, list(rows), given.headers)
                if by_steps:  # not to be tried in one round trip again, which fails
                    self._by_steps.add(given.slug)
            # Those that have failed already, of their first steps' conditions, are read again for why.
            again = [run_id for run_id in given.run_ids if run_id not in rows or rows[run_id][2] == "failed"]
            given.found.update(run_id for run_id in again if run_id not in rows)
            return rows | _found(conn, given.slug, again) if again else rows

    def _start_fast(
        self, conn: Connection, parameters: dict[str, Any], savepoint: AbstractContextManager[object]
    ) -> tuple[dict[UUID, Any], str | None]:
        """The rows of those that it started, by id; the SQLSTATE with which that failed, then the core is to do it."""
        try:
            with savepoint:
                return _by_id(self._fast_lane.start(conn, **parameters, columns=_STARTED)), None
        except psycopg.errors.SerializationFailure:
            return {}, None  # a run is there that the caller's transaction cannot see: the core's functions say so
        except (psycopg.errors.UniqueViolation, psycopg.OperationalError):
            raise
        except psycopg.Error as error:
            if error.sqlstate is None:
                raise
            self._fast_lane.forget()
            return {}, error.sqlstate  # the core's functions say what it is

    def _start_with_headers(
        self, conn: Connection, slug: str, parameters: dict[str, Any], headers: str
    ) -> dict[UUID, Any]:
        """One run, in one round trip; no row, and nothing is done, where that takes more."""
        try:
            by_lane = self._fast_lane.starting(conn, **parameters, columns=_STARTED)
            with conn.pipeline(), conn.transaction():
                started = conn.execute(*by_lane or (_START, parameters), prepare=True)
                conn.execute(_set(slug, of_step=False), (headers, parameters["run_ids"]), prepare=True)
        except (psycopg.DataError, psycopg.ProgrammingError):
            return {}
        return _by_id(started.fetchall())


class _Given(NamedTuple):
    """What is to be started, and for whom."""

    client: RunReader
    slug: str
    inputs: Sequence[str]
    run_ids: Sequence[UUID]
    headers: str | None
    callers: bool
    """Whether it is started in the caller's transaction."""
    found: set[UUID]
    """Those that were there already."""


def unknown_flow(slug: str) -> UnknownFlowError:
    """The error for a flow that is not there."""
    return UnknownFlowError(f"flow {slug!r} is not in the database: start a starter that has it, or check the slug")


def _unknown(error: DatabaseError, run_ids: Sequence[UUID]) -> OutcomeUnknownError:
    """The call was given up, and the caller is to know how to repeat it."""
    repeat = _REPEAT.format(str(run_ids[0])) if len(run_ids) == 1 else _REPEAT_MANY
    told = OutcomeUnknownError(
        f"{error}; {repeat}",
        sqlstate=error.sqlstate,
        error_type=error.error_type,
        connection_lost=error.connection_lost,
        unknown=True,
        timed_out=error.timed_out,
    )
    told.run_ids = tuple(run_ids)
    return told


def _found(conn: Connection, slug: str, run_ids: Sequence[UUID]) -> dict[UUID, Any]:
    """The rows of runs that are there."""
    rows = _by_id(conn.execute(FIND, ([str(r) for r in run_ids],)).fetchall())
    for run_id in run_ids:
        if run_id not in rows:
            raise unknown_flow(slug)
        if (other := rows[run_id][1]) != slug:
            msg = f"run {run_id} is a run of flow {other!r}, not of {slug!r}"
            raise PgflowError(msg)
    return rows


def _by_id(rows: list[Any]) -> dict[UUID, Any]:
    return {UUID(row[0]): row for row in rows}


@cache
def _set(queue: str, *, of_step: bool) -> str:
    name = sql.Literal(queue)
    message = sql.SQL("t.message_id" if of_step else _OF_FLOW).format(name=name)
    of_queue = sql.SQL(_OF_QUEUE if of_step else "").format(name=name)
    return sql.SQL(_SET).format(queue=sql.Identifier(f"q_{queue}"), message=message, of_queue=of_queue).as_string()


def set_headers(conn: Connection, slug: str, run_ids: Sequence[UUID], headers: str) -> bool:
    """Add them, a JSON object, to the messages of runs that this transaction has started. Blocks on I/O.

    Where that may not be, by a role without UPDATE say, the runs are started all the same. Whether each step of the
    flow has a queue is returned.
    """
    try:
        with conn.transaction():
            found: list[Any] = conn.execute(_HAVE_HEADERS, (slug,)).fetchall()
            for queue, of_step in found:
                conn.execute(_set(queue, of_step=of_step), (headers, [str(run_id) for run_id in run_ids]))
            return any(of_step for _, of_step in found)
    except (psycopg.DataError, psycopg.ProgrammingError) as error:
        logger.debug("%s: no trace context on messages: %s", slug, error)
        return False
