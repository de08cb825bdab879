"""`Starts`: runs are started, many in one statement, on a pooled connection or in a caller's transaction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

import psycopg
from psycopg.pq import TransactionStatus

from pgflow_starter.core.definition import FlowDefinition
from pgflow_starter.core.due import Due
from pgflow_starter.errors import DatabaseError, OutcomeUnknownError, PgflowError, UnknownFlowError
from pgflow_starter.postgres.client.callers_transaction import callers_transaction
from pgflow_starter.postgres.client.calls import Calls, with_remedy
from pgflow_starter.postgres.client.first_messages import at_once, hide, set_headers
from pgflow_starter.postgres.client.run import COLUMNS, FOUND, Run, RunReader, run_of
from pgflow_starter.postgres.client.traced_runs import tell_over_at_once
from pgflow_starter.postgres.connections.connection import Connection
from pgflow_starter.postgres.stores.fast_lane.lane import FastLane
from pgflow_starter.postgres.stores.flows import compile_flow

if TYPE_CHECKING:
    from pgflow_starter.ports import MessageObserver

SMALL = 10_000
"""Characters of input up to which one run is started within the time for which a server may be silent."""

LARGE_ANSWERS = 20
"""Times as long as that what is larger, or more than one, may take."""

TRIES = 10
"""Times that runs are started which others start at the same moment."""

_AGAIN = (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure)

_REPEAT = "it may be carried out all the same; the same call with run_id={!r} is safe to repeat"
_REPEAT_MANY = "it may be carried out all the same; the same call with run_ids=error.run_ids is safe to repeat"
_REPEAT_KEYED = "it may be carried out all the same; the same call is safe to repeat, its keys being the same"

_STARTED = f"{COLUMNS.format(error='null')}, false"
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
_HAS_STEPS = "select from pgflow.steps where flow_slug = %s::text limit 1"


class _DeletedError(Exception):
    """A run that was there when its start was tried is there no more."""


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
        *,
        due: Due | None = None,
        keyed: bool = False,
        rerun_of: Sequence[UUID] = (),
    ) -> list[Run]:
        """All of these runs or none, each with its input as JSON; those that are there already are returned.

        An id that is there twice is one run, of the first of its inputs. What is started has no visible message until
        it is `due`. Where each is a `rerun_of` another, that is told to who gets its first messages. A flow that is not
        in the database is compiled first where its definition is known. `keyed` says whether the caller chose keys and
        no ids. Blocks on I/O. Raises UnknownFlowError, PgflowError.
        """
        places = list(zip(run_ids, inputs, strict=True))
        first = dict(reversed(places))
        first = {run_id: first[run_id] for run_id in dict.fromkeys(run_ids)}
        with self._observer.sending(slug, list(first), rerun_of) as trace:
            headers = trace or ("{}" if rerun_of else None)
            callers = connection is not None
            given = _Given(
                client, slug, list(first.values()), list(first), headers, callers, due, places, keyed, rerun_of, set()
            )
            if callers:  # who may roll it back: nothing is told of a run that is over at once
                with callers_transaction(connection) as conn:
                    return self._in_transaction(conn, given, definition)
            runs = self._calls.off_main(partial(self._pooled, given, definition))
            if trace is not None:
                tell_over_at_once(self._observer, runs, trace)
            return runs

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
                raise _unknown(error, given) from error
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
                started = self._start(conn, given)
                rows = {place: started[place[0]] for place in zip(given.run_ids, given.inputs, strict=True)}
                if others := [place for place in given.places if place not in rows]:
                    rows |= zip(others, _found(conn, given.slug, others), strict=True)
                return [
                    run_of(
                        row,
                        given.client,
                        committed=not given.callers,
                        input_differs=differs,
                        found=place[0] in given.found,
                    )
                    for place in given.places
                    for *row, differs in (rows[place],)
                ]
            except psycopg.errors.UniqueViolation as error:
                # Another call has just started one of them: the next statement sees it, unless it sees the past only.
                if not tries:
                    what = f"run {given.run_ids[0]}" if len(given.run_ids) == 1 else f"one of {len(given.run_ids)} runs"
                    msg = f"{what} exists, but this transaction began before it did and cannot see it: ask for it later"
                    raise PgflowError(msg) from error
            except _DeletedError:
                if not tries:
                    msg = f"a run of flow {given.slug!r} is deleted whenever it is started: nothing was started"
                    raise PgflowError(msg) from None
            except _AGAIN:
                if given.callers or not tries:
                    raise

    def _start(self, conn: Connection, given: _Given) -> dict[UUID, Any]:
        """The rows of all, those that were there included, by id. Raises UnknownFlowError, PgflowError."""
        parameters = {"slug": given.slug, "inputs": list(given.inputs), "run_ids": [str(r) for r in given.run_ids]}
        idle = conn.info.transaction_status == TransactionStatus.IDLE
        plain = given.headers is None and given.due is None
        by_itself = idle and plain and len(given.run_ids) == 1
        one = not (given.callers or given.rerun_of) and len(given.run_ids) == 1 and given.slug not in self._by_steps
        tried: dict[UUID, Any] = {}
        if one and not plain:
            tried = self._start_at_once(conn, given, parameters)
            if any(row[2] != "failed" for row in tried.values()):
                return tried
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
            by_steps = False
            if given.due is not None and rows:
                some = any(row[2] == "started" for row in rows.values())
                by_steps = hide(conn, given.slug, list(rows), given.due, some=some)
            if given.headers is not None and rows:
                reruns = dict(zip(given.run_ids, given.rerun_of, strict=False))
                old = [reruns[run_id] for run_id in rows if reruns]
                by_steps |= set_headers(conn, given.slug, list(rows), given.headers, old)
            if by_steps:  # not to be tried in one round trip again, which fails
                self._by_steps.add(given.slug)
            # Those that have failed already, of their first steps' conditions, are read again for why.
            again = [run_id for run_id in given.run_ids if run_id not in rows or rows[run_id][2] == "failed"]
            inputs = dict(zip(given.run_ids, given.inputs, strict=True))
            found = _found(conn, given.slug, [(run_id, inputs[run_id]) for run_id in again]) if again else []
            given.found.update(run_id for run_id in again if run_id not in rows and run_id not in tried)
            return rows | dict(zip(again, found, strict=True))

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

    def _start_at_once(self, conn: Connection, given: _Given, parameters: dict[str, Any]) -> dict[UUID, Any]:
        """One run, in one round trip; no row, and nothing is done, where that takes more."""
        try:
            by_lane = self._fast_lane.starting(conn, **parameters, columns=_STARTED)
            with conn.pipeline(), conn.transaction():
                started = conn.execute(*by_lane or (_START, parameters), prepare=True)
                for statement in at_once(given.slug, parameters["run_ids"], given.headers, given.due):
                    conn.execute(*statement, prepare=True)
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
    due: Due | None
    places: Sequence[tuple[UUID, str]]
    """What is asked for, in that order: ids and inputs, of which ids may be there twice."""
    keyed: bool
    rerun_of: Sequence[UUID]
    """One for each of the runs, or none."""
    found: set[UUID]
    """Those that were there already."""


def unknown_flow(slug: str) -> UnknownFlowError:
    """The error for a flow that is not there."""
    return UnknownFlowError(f"flow {slug!r} is not in the database: start a starter that has it, or check the slug")


def _unknown(error: DatabaseError, given: _Given) -> OutcomeUnknownError:
    """The call was given up, and the caller is to know how to repeat it."""
    repeat = _REPEAT.format(str(given.run_ids[0])) if len(given.run_ids) == 1 else _REPEAT_MANY
    repeat = _REPEAT_KEYED if given.keyed else repeat
    told = OutcomeUnknownError(
        f"{error}; {repeat}",
        sqlstate=error.sqlstate,
        error_type=error.error_type,
        connection_lost=error.connection_lost,
        unknown=True,
        timed_out=error.timed_out,
    )
    told.run_ids = tuple(given.run_ids)
    return told


def _found(conn: Connection, slug: str, places: Sequence[tuple[UUID, str]]) -> list[Any]:
    """The rows of runs that are there, one for each id and input.

    Raises UnknownFlowError, _DeletedError where the flow is there, and they are to be started anew, PgflowError.
    """
    asked = {"run_ids": [str(run_id) for run_id, _ in places], "inputs": [text for _, text in places]}
    rows: list[Any] = conn.execute(FOUND, asked).fetchall()
    if len(rows) < len(places):
        if conn.execute(_HAS_STEPS, (slug,)).fetchone() is not None:
            raise _DeletedError
        raise unknown_flow(slug)
    for run_id, other, *_ in rows:
        if other != slug:
            msg = f"run {run_id} is a run of flow {other!r}, not of {slug!r}"
            raise PgflowError(msg)
    return rows


def _by_id(rows: list[Any]) -> dict[UUID, Any]:
    return {UUID(row[0]): row for row in rows}
