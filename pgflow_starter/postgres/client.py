"""`PgflowClient`: starts runs and asks for them."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC
from typing import Any, Self, TypeVar
from uuid import UUID, uuid4

import psycopg
from psycopg.pq import TransactionStatus

from pgflow_starter.clock import SystemClock
from pgflow_starter.core.definition import FlowDefinition
from pgflow_starter.core.encoding import to_json
from pgflow_starter.core.modules import definition_of
from pgflow_starter.errors import DatabaseError, PgflowError, RunNotFoundError, StarterStopped, UnknownFlowError
from pgflow_starter.ports import Clock
from pgflow_starter.postgres.conninfo import Redactor
from pgflow_starter.postgres.database import Connection, Database
from pgflow_starter.postgres.errors import translate
from pgflow_starter.postgres.features import INSTALL_HINT
from pgflow_starter.postgres.flows import compile_flow
from pgflow_starter.postgres.run import Run

logger = logging.getLogger("pgflow_starter.client")

T = TypeVar("T")

CLIENT_POOL_SIZE = 4
FIRST_POLL, LAST_POLL = 0.02, 0.5
SHORTEST_LOOK, LONGEST_LOOK = 0.05, 5.0
"""Seconds that one look of a `wait` may take."""

_COLUMNS = """
r.run_id, r.flow_slug, r.status, r.input::text, r.output::text,
(select t.error_message from pgflow.step_tasks t
 where t.run_id = r.run_id and t.status = 'failed' and r.status = 'failed' order by t.failed_at limit 1),
r.started_at, coalesce(r.completed_at, r.failed_at)
"""
# Not called at all unless the statement saw the flow's steps: start_flow beside the flow's first compile may see the
# flow by its foreign key and no steps yet, and such a run is completed at once with nothing done.
_START = (
    f"select {_COLUMNS} from pgflow.start_flow(%(slug)s, %(input)s::jsonb, %(run_id)s::uuid) r"  # noqa: S608 - constant
    " where exists (select from pgflow.steps where flow_slug = %(slug)s)"
)
_RUN = f"select {_COLUMNS} from pgflow.runs r where r.run_id = %s"  # noqa: S608 - a constant

_QUERY_CANCELED = "57014"
_NOT_INSTALLED = ("3F000", "42883", "42P01")  # schema, function and table missing


class PgflowClient:
    """Starts and reads runs, over a small pool of its own that opens with the first call. Thread-safe.

    Every error is a PgflowError or TimeoutError. While the database is away a call waits up to `patience` seconds for
    it. A context manager: `close` ends the pool. It belongs to the process of its first call: in a child forked from
    that one calls raise ForkedError.
    """

    def __init__(self, conninfo: str, *, patience: float = 30.0) -> None:
        if not isinstance(conninfo, str):
            msg = f"conninfo must be a libpq connection string or URI, got {type(conninfo).__name__}"
            raise ValueError(msg)
        self._setup(
            Database(conninfo, pool_size=CLIENT_POOL_SIZE, clock=SystemClock(), patience=patience),
            SystemClock(),
            lambda _: None,
            lambda _: None,
        )
        self._owns_database = True

    @classmethod
    def over(
        cls,
        database: Database,
        clock: Clock,
        definitions: Callable[[str], FlowDefinition | None],
        started: Callable[[str], None],
    ) -> Self:
        """A client over a starter's pool.

        `definitions` finds the definition of a slug that the starter has; `started` is told the slug of each run that
        was started and committed.
        """
        client = cls.__new__(cls)
        PgflowClient._setup(client, database, clock, definitions, started)
        return client

    def _setup(
        self,
        database: Database,
        clock: Clock,
        definitions: Callable[[str], FlowDefinition | None],
        started: Callable[[str], None],
    ) -> None:
        self._started = started
        self._database = database
        self._clock = clock
        self._definitions = definitions
        self._owns_database = False
        self._closed = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return "PgflowClient()"

    def close(self) -> None:
        """End the pool; calls that wait raise. Idempotent, and without effect in a child forked from its process."""
        if self._database.foreign:
            return
        self._closed.set()
        if self._owns_database:
            self._database.close()

    def start_flow(
        self, flow: Any, input: Any = None, *, run_id: UUID | str | None = None, connection: Any = None
    ) -> Run:
        """Start a run of a flow, given as object or slug, with a JSON input.

        `run_id` makes the call idempotent: where that run exists it is returned. `connection` (psycopg) starts it
        inside the caller's transaction, to be seen and run when that commits. Raises ValueError for an input that is
        no JSON, UnknownFlowError for a slug that is not in the database, PgflowError for all else.
        """
        self._database.check_process()
        slug, definition = self._resolve(flow)
        text = to_json(input, "input")
        chosen = _uuid(run_id) if run_id is not None else uuid4()
        if connection is None:
            return self._start_and_resend(slug, definition, text, chosen)
        with _callers_transaction(connection) as conn:
            try:
                return self._start(conn, slug, text, chosen)
            except UnknownFlowError:
                if definition is None:
                    raise
                with _remedied(), self._database.connection() as own:
                    compile_flow(own, definition)
                return self._start(conn, slug, text, chosen)

    def enqueue(self, job: Any, input: Any = None, *, run_id: UUID | str | None = None, connection: Any = None) -> Run:
        """Send a message to a job, given as object or slug. Otherwise as `start_flow`."""
        return self.start_flow(job, input, run_id=run_id, connection=connection)

    def run(self, run_id: UUID | str) -> Run:
        """The run of that id. Raises RunNotFoundError, ValueError for what is no UUID, PgflowError."""
        chosen = _uuid(run_id)
        row = self._resending(lambda conn: conn.execute(_RUN, (chosen,)).fetchone())
        if row is None:
            msg = f"there is no run {chosen}"
            raise RunNotFoundError(msg)
        return self._as_run(row)

    def _resolve(self, flow: Any) -> tuple[str, FlowDefinition | None]:
        if isinstance(flow, str):
            if not flow.isascii():
                raise _unknown_flow(flow)
            return flow, self._definitions(flow)
        definition = definition_of(flow)
        return definition.slug, definition

    def _start_and_resend(self, slug: str, definition: FlowDefinition | None, text: str, run_id: UUID) -> Run:
        def start(conn: Connection) -> Run:
            try:
                return self._start(conn, slug, text, run_id)
            except UnknownFlowError:
                if definition is None:
                    raise
                compile_flow(conn, definition)  # before its starter came to it
                return self._start(conn, slug, text, run_id)

        run = self._resending(start)
        self._started(slug)
        return run

    def _resending(self, call: Callable[[Connection], T]) -> T:
        """Call on a connection; once more when it broke. Whether a start was committed is unknown then: see run ids."""
        attempts_left = 2
        while True:
            attempts_left -= 1
            try:
                with self._database.connection() as conn:
                    return call(conn)
            except DatabaseError as error:
                if not error.connection_lost or not attempts_left or self._database.outage is not None:
                    raise self._told(error) from error

    def _start(self, conn: Connection, slug: str, text: str, run_id: UUID) -> Run:
        try:
            with conn.transaction():
                row = conn.execute(_START, {"slug": slug, "input": text, "run_id": run_id}).fetchone()
        except psycopg.errors.UniqueViolation:
            row = conn.execute(_RUN, (run_id,)).fetchone()
            if row is not None and row[1] != slug:
                msg = f"run {run_id} is a run of flow {row[1]!r}, not of {slug!r}"
                raise PgflowError(msg) from None
        if row is None:
            raise _unknown_flow(slug)
        return self._as_run(row)

    def wait(self, run: Run, timeout: float | None) -> Run:
        """As `Run.wait`."""
        deadline = None if timeout is None else self._clock.monotonic() + timeout
        pause = FIRST_POLL
        while True:
            left = LONGEST_LOOK if deadline is None else deadline - self._clock.monotonic()
            run = self._look(run, max(SHORTEST_LOOK, min(left, LONGEST_LOOK)))
            if run.finished:
                return run
            left = LAST_POLL if deadline is None else deadline - self._clock.monotonic()
            if left <= 0:
                msg = f"run {run.id} of flow {run.flow_slug!r} is still {run.status} after {timeout:g} s"
                raise TimeoutError(msg)
            if self._closed.wait(min(pause, left)):
                msg = f"the client was closed while it waited for run {run.id}"
                raise PgflowError(msg)
            pause = min(pause * 2, LAST_POLL)

    def _look(self, run: Run, seconds: float) -> Run:
        """The run now; as it was when the database cannot say within so many seconds."""
        try:
            with self._database.connection(patience=seconds) as conn, conn.pipeline(), conn.transaction():
                conn.execute("select set_config('statement_timeout', %s, true)", (f"{int(seconds * 1000)}ms",))
                cursor = conn.execute(_RUN, (run.id,))
            row = cursor.fetchone()
        except DatabaseError as error:
            passing = error.connection_lost or error.sqlstate == _QUERY_CANCELED or error.error_type == "PoolTimeout"
            if not passing or self._closed.is_set():
                raise self._told(error) from error
            return run
        return run if row is None else self._as_run(row)

    def _told(self, error: DatabaseError) -> PgflowError:
        """The error with its remedy; that of a starter which has stopped is StarterStopped."""
        if self._closed.is_set() and not self._owns_database:
            return StarterStopped("the starter was stopped")
        return _with_remedy(error)

    def _as_run(self, row: Any) -> Run:
        run_id, slug, status, given, output, error, started_at, ended_at = row
        ended = None if ended_at is None else ended_at.astimezone(UTC)
        try:
            given, output = json.loads(given), None if output is None else json.loads(output)
        except (ValueError, RecursionError) as unreadable:  # PostgreSQL's JSON goes beyond what Python parses
            msg = f"the input or output of run {run_id} cannot be read: {type(unreadable).__name__}: {unreadable}"
            raise PgflowError(msg) from unreadable
        return Run(run_id, slug, status, given, output, error, started_at.astimezone(UTC), ended, self)


def _unknown_flow(slug: str) -> UnknownFlowError:
    return UnknownFlowError(f"flow {slug!r} is not in the database: start a starter that has it, or check the slug")


def _uuid(run_id: UUID | str) -> UUID:
    try:
        return run_id if isinstance(run_id, UUID) else UUID(run_id)
    except (ValueError, AttributeError, TypeError):
        msg = f"run_id must be a UUID, got {run_id!r}"
        raise ValueError(msg) from None


@contextmanager
def _callers_transaction(connection: Any) -> Iterator[Connection]:
    if not isinstance(connection, psycopg.Connection):
        msg = f"connection must be a psycopg.Connection, got {type(connection).__name__}"
        raise TypeError(msg)
    redact = Redactor()
    try:
        # fails, too, when the connection is closed
        redact = Redactor(
            connection.info.dsn, f"password='{password}'" if (password := connection.info.password) else ""
        )
        with connection.cursor(row_factory=psycopg.rows.tuple_row) as cursor:
            if not connection.autocommit and connection.info.transaction_status == TransactionStatus.IDLE:
                # Opens the caller's transaction: a transaction() block on an idle connection would commit by itself.
                cursor.execute("select")
            yield _OnCursor(connection, cursor)  # type: ignore[misc]
    except psycopg.Error as error:
        raise _with_remedy(translate(error, redact)) from error


class _OnCursor:
    """A caller's connection, read with our row factory whatever its own is."""

    def __init__(self, connection: Any, cursor: Any) -> None:
        self.transaction = connection.transaction
        self.execute = cursor.execute


@contextmanager
def _remedied() -> Iterator[None]:
    try:
        yield
    except DatabaseError as error:
        raise _with_remedy(error) from error


def _with_remedy(error: DatabaseError) -> DatabaseError:
    if error.sqlstate in _NOT_INSTALLED:
        remedy = f"pgmq or the pgflow core is missing in this database; {INSTALL_HINT}"
    elif error.connection_lost:
        remedy = "the database cannot be reached; check that it runs and what the connection string says"
    else:
        return error
    return DatabaseError(
        f"{error}; {remedy}",
        sqlstate=error.sqlstate,
        error_type=error.error_type,
        connection_lost=error.connection_lost,
    )
