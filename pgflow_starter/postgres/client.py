"""`PgflowClient`: starts runs and asks for them."""

from __future__ import annotations

import threading
import warnings
import weakref
from collections.abc import Callable, Collection, Iterable
from functools import partial
from typing import Any, Self, TypeVar
from uuid import UUID, uuid4

from pgflow_starter.clock import SystemClock
from pgflow_starter.core.definition import FlowDefinition
from pgflow_starter.core.encoding import to_json
from pgflow_starter.core.modules import definition_of
from pgflow_starter.errors import DatabaseError, PgflowError, RunNotFoundError, StarterStopped, UnknownFlowError
from pgflow_starter.ports import Clock
from pgflow_starter.postgres.callers_transaction import callers_transaction
from pgflow_starter.postgres.connection import Connection
from pgflow_starter.postgres.database import Database
from pgflow_starter.postgres.elsewhere import Elsewhere, NoThreadError
from pgflow_starter.postgres.errors import no_thread
from pgflow_starter.postgres.flows import compile_flow
from pgflow_starter.postgres.remedies import remedied, with_remedy
from pgflow_starter.postgres.run import Run
from pgflow_starter.postgres.runs import FIND, run_of, start_run, unknown_flow
from pgflow_starter.postgres.waits import Waits

T = TypeVar("T")

CLIENT_POOL_SIZE = 4
_QUERY_CANCELED = "57014"
_PASSING = ("PoolTimeout", "NoThread")


class PgflowClient:
    """Starts and reads runs, over a small pool of its own that opens with the first call. Thread-safe.

    Every error is a PgflowError or TimeoutError. While the database is away a call waits up to `patience` seconds for
    it. A context manager: `close` ends the pool; one that is dropped without has it ended, too, with a ResourceWarning.
    It belongs to the process of its first call: in a child forked from that one calls raise ForkedError.
    """

    def __init__(self, conninfo: str, *, patience: float = 30.0) -> None:
        if not isinstance(conninfo, str):
            msg = f"conninfo must be a libpq connection string or URI, got {type(conninfo).__name__}"
            raise ValueError(msg)
        database = Database(conninfo, pool_size=CLIENT_POOL_SIZE, clock=SystemClock(), patience=patience)
        self._setup(database, SystemClock(), lambda _: None, lambda _: None)
        self._owns_database = True
        self._dropped = weakref.finalize(self, _dropped, database, self._threads)
        self._dropped.atexit = False

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
        self._waits = Waits(clock)
        self._threads = Elsewhere("pgflow-client")

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
        self._waits.close(PgflowError("the client was closed") if self._owns_database else _stopped())
        self._threads.close()
        if self._owns_database:
            self._dropped.detach()
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
            return self._elsewhere(lambda: self._start_and_resend(slug, definition, text, chosen))
        with callers_transaction(connection) as conn:
            try:
                return start_run(conn, slug, text, chosen, self)
            except UnknownFlowError:
                if definition is None:
                    raise
                self._elsewhere(partial(self._compile, definition))
                return self._start_compiled(conn, slug, text, chosen)

    def enqueue(self, job: Any, input: Any = None, *, run_id: UUID | str | None = None, connection: Any = None) -> Run:
        """Send a message to a job, given as object or slug. Otherwise as `start_flow`."""
        return self.start_flow(job, input, run_id=run_id, connection=connection)

    def run(self, run_id: UUID | str) -> Run:
        """The run of that id. Raises RunNotFoundError, ValueError for what is no UUID, PgflowError."""
        chosen = _uuid(run_id)
        self._database.check_process()
        row = self._elsewhere(lambda: self._resending(lambda conn: conn.execute(FIND, ([chosen],)).fetchone()))
        if row is None:
            msg = f"there is no run {chosen}"
            raise RunNotFoundError(msg)
        return run_of(row, self)

    def _resolve(self, flow: Any) -> tuple[str, FlowDefinition | None]:
        if isinstance(flow, str):
            if not flow.isascii():
                raise unknown_flow(flow)
            return flow, self._definitions(flow)
        definition = definition_of(flow)
        return definition.slug, definition

    def _start_and_resend(self, slug: str, definition: FlowDefinition | None, text: str, run_id: UUID) -> Run:
        def start(conn: Connection) -> Run:
            try:
                return start_run(conn, slug, text, run_id, self)
            except UnknownFlowError:
                if definition is None:
                    raise
                compile_flow(conn, definition)  # before its starter came to it
                return start_run(conn, slug, text, run_id, self)

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

    def _compile(self, definition: FlowDefinition) -> None:
        with remedied(), self._database.connection() as own:
            compile_flow(own, definition)

    def _start_compiled(self, conn: Connection, slug: str, text: str, run_id: UUID) -> Run:
        try:
            return start_run(conn, slug, text, run_id, self)
        except UnknownFlowError:
            msg = f"flow {slug!r} exists, but this transaction began before it did and cannot see it: try in another"
            raise PgflowError(msg) from None

    def wait(self, run: Run, timeout: float | None) -> Run:
        """As `Run.wait`."""
        self._database.check_process()
        return self._waits.wait(run, timeout, self._look)

    def may_have_ended(self, run_ids: Iterable[UUID]) -> None:
        """These runs may be finished by now: who waits for them looks at once. Does not wait itself."""
        self._waits.may_have_ended(run_ids)

    def _look(self, run_ids: Collection[UUID], seconds: float) -> dict[UUID, Run | PgflowError]:
        """The runs now; none when the database cannot say within so many seconds."""
        try:
            return self._threads(lambda: self._found(run_ids, seconds))
        except NoThreadError:
            return {}

    def _found(self, run_ids: Collection[UUID], seconds: float) -> dict[UUID, Run | PgflowError]:
        try:
            with self._database.connection(patience=seconds) as conn, conn.pipeline(), conn.transaction():
                conn.execute("select set_config('statement_timeout', %s, true)", (f"{int(seconds * 1000)}ms",))
                cursor = conn.execute(FIND, (list(run_ids),))
            rows: list[Any] = cursor.fetchall()
        except DatabaseError as error:
            passing = error.connection_lost or error.sqlstate == _QUERY_CANCELED or error.error_type in _PASSING
            if not passing or self._closed.is_set():
                raise self._told(error) from error
            return {}
        found: dict[UUID, Run | PgflowError] = {}
        for row in rows:
            try:
                found[row[0]] = run_of(row, self)
            except PgflowError as error:
                found[row[0]] = error
        return found

    def _elsewhere(self, call: Callable[[], T]) -> T:
        """Not on the main thread, where a signal handler may raise. Raises PgflowError where there is no thread."""
        try:
            return self._threads(call)
        except NoThreadError as error:
            raise self._told(no_thread(error)) from error

    def _told(self, error: DatabaseError) -> PgflowError:
        """The error with its remedy; that of a starter which has stopped is StarterStopped."""
        if self._closed.is_set() and not self._owns_database:
            return _stopped()
        return with_remedy(error)


def _dropped(database: Database, threads: Elsewhere) -> None:
    """On whatever thread the garbage is collected. Does not wait."""
    threads.close()
    if database.abandon():
        warnings.warn(
            "a PgflowClient was dropped without close(): its connections end now", ResourceWarning, stacklevel=2
        )


def _uuid(run_id: UUID | str) -> UUID:
    try:
        return run_id if isinstance(run_id, UUID) else UUID(run_id)
    except (ValueError, AttributeError, TypeError):
        msg = f"run_id must be a UUID, got {run_id!r}"
        raise ValueError(msg) from None


def _stopped() -> StarterStopped:
    return StarterStopped("the starter was stopped")
