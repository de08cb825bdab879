"""`Client`: starts runs and asks for them."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable, Iterable
from typing import Any, Self
from uuid import UUID, uuid4

from pgflow_starter.clock import Clock
from pgflow_starter.core.definition import FlowDefinition
from pgflow_starter.core.encoding import to_json
from pgflow_starter.core.modules import definition_of
from pgflow_starter.core.runs import RunSummary
from pgflow_starter.errors import DatabaseError, PgflowError, RunNotFoundError
from pgflow_starter.ports import MessageObserver
from pgflow_starter.postgres.client.calls import Calls
from pgflow_starter.postgres.client.endings import Endings
from pgflow_starter.postgres.client.run import FIND, Run, recent_runs, run_of
from pgflow_starter.postgres.client.starts import Starts, unknown_flow
from pgflow_starter.postgres.client.steps import STEPS, StepRun, step_of
from pgflow_starter.postgres.client.waits import Waits
from pgflow_starter.postgres.connections.database import Database
from pgflow_starter.postgres.stores.fast_lane.lane import FastLane

CLIENT_POOL_SIZE = 4


class Client:
    """Starts and reads runs. Thread-safe."""

    _dropped: weakref.finalize[Any, Any] | None

    def __init__(self, conninfo: str, observer: MessageObserver, clock: Clock, *, patience: float) -> None:
        """Over a small pool of its own that opens with the first call; one that is dropped without `close` ends it."""
        if not isinstance(conninfo, str):
            msg = f"conninfo must be a libpq connection string or URI, got {type(conninfo).__name__}"
            raise ValueError(msg)
        database = Database(conninfo, pool_size=CLIENT_POOL_SIZE, clock=clock, patience=patience)
        self._setup(Calls(database), observer, clock, lambda _: None, lambda _: None, FastLane(clock))
        dropped = self._dropped = weakref.finalize(self, _dropped, self._calls)
        dropped.atexit = False

    @classmethod
    def on_database(
        cls,
        database: Database,
        observer: MessageObserver,
        clock: Clock,
        definitions: Callable[[str], FlowDefinition | None],
        started: Callable[[str], None],
        ended: Callable[[], PgflowError],
        *,
        fast_lane: FastLane,
    ) -> Self:
        """A client over a starter's pool.

        `definitions` finds the definition of a slug that the starter has; `started` is told the slug of each run that
        was started and committed. `ended` makes what calls raise that meet the starter's end.
        """
        client = cls.__new__(cls)
        Client._setup(client, Calls(database, ended), observer, clock, definitions, started, fast_lane)
        return client

    def _setup(
        self,
        calls: Calls,
        observer: MessageObserver,
        clock: Clock,
        definitions: Callable[[str], FlowDefinition | None],
        started: Callable[[str], None],
        fast_lane: FastLane,
    ) -> None:
        self._calls = calls
        self._definitions = definitions
        self._starts = Starts(calls, observer, started, fast_lane)
        self._dropped = None
        self._waits = Waits(clock)
        self._endings = Endings(calls, self._waits, clock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    def close(self) -> None:
        """End the pool; calls that wait raise. Idempotent, and without effect in a child forked from its process."""
        if self._calls.database.foreign:
            return
        self._calls.close()
        self._waits.close(self._calls.end())
        if self._dropped is not None:
            self._dropped.detach()
            self._calls.database.close()

    def start_flow(
        self, flow: Any, input: Any = None, *, run_id: UUID | str | None = None, connection: Any = None
    ) -> Run:
        """Start a run of a flow, given as object or slug, with a JSON input.

        `run_id` makes the call idempotent: where that run exists it is returned. `connection` (psycopg) starts it
        inside the caller's transaction, to be seen and run when that commits. A current trace context travels with the
        messages of its first steps. Raises ValueError for an input that is no JSON, UnknownFlowError for a slug that is
        not in the database, PgflowError for all else.
        """
        self._calls.database.check_process()
        slug, definition = self._resolve(flow)
        texts = [to_json(input, "input")]
        chosen = [_uuid(run_id) if run_id is not None else uuid4()]
        return self._starts.start(self, slug, definition, texts, chosen, connection)[0]

    def enqueue(self, job: Any, input: Any = None, *, run_id: UUID | str | None = None, connection: Any = None) -> Run:
        """Send a message to a job, given as object or slug. Otherwise as `start_flow`."""
        return self.start_flow(job, input, run_id=run_id, connection=connection)

    def start_flows(
        self, flow: Any, inputs: Iterable[Any], *, run_ids: Iterable[UUID | str] | None = None, connection: Any = None
    ) -> list[Run]:
        """Start a run of a flow for each input, in one statement: all of them or none. The runs, in that order.

        `run_ids`, one for each input and no two the same, make the call idempotent; otherwise as `start_flow`.
        """
        self._calls.database.check_process()
        slug, definition = self._resolve(flow)
        texts = [to_json(value, f"inputs[{i}]") for i, value in enumerate(inputs)]
        chosen = [uuid4() for _ in texts] if run_ids is None else [_uuid(run_id) for run_id in run_ids]
        if len(chosen) != len(texts) or len(set(chosen)) != len(chosen):
            msg = f"run_ids must be as many as inputs and all different, got {len(chosen)} for {len(texts)} inputs"
            raise ValueError(msg)
        if not texts:
            return []
        # Given ids in one order, whatever theirs: calls that start the same runs wait for each other, not in a circle.
        order = range(len(chosen)) if run_ids is None else sorted(range(len(chosen)), key=chosen.__getitem__)
        runs = self._starts.start(
            self, slug, definition, [texts[i] for i in order], [chosen[i] for i in order], connection
        )
        by_id = {run.id: run for run in runs}
        return [by_id[run_id] for run_id in chosen]

    def enqueue_many(
        self, job: Any, inputs: Iterable[Any], *, run_ids: Iterable[UUID | str] | None = None, connection: Any = None
    ) -> list[Run]:
        """Send a message to a job for each input. Otherwise as `start_flows`."""
        return self.start_flows(job, inputs, run_ids=run_ids, connection=connection)

    def run(self, run_id: UUID | str) -> Run:
        """The run of that id. Raises RunNotFoundError, ValueError for what is no UUID, PgflowError."""
        return run_of(self._rows(FIND, run_id)[0], self)

    def steps(self, run_id: UUID | str) -> tuple[StepRun, ...]:
        """As `Run.steps`, of the run of that id. Raises RunNotFoundError, PgflowError."""
        return tuple(step_of(row) for row in self._rows(STEPS, run_id))

    def recent_runs(self, limit: int = 20, *, patience: float = 1.0) -> tuple[RunSummary, ...]:
        """The `limit` runs that began last, in this database, the newest first.

        Waits up to `patience` seconds for the database, and as long again for its answer. Raises PgflowError.
        """
        self._calls.database.check_process()
        return self._calls.off_main(lambda: self._recent(limit, patience))

    def _recent(self, limit: int, patience: float) -> tuple[RunSummary, ...]:
        try:
            return self._calls.database.call(
                lambda conn: recent_runs(conn, limit, patience), patience=patience, lock=patience
            )
        except DatabaseError as error:
            raise self._calls.callers_error(error) from error

    def _rows(self, query: str, run_id: UUID | str) -> list[Any]:
        """What the query finds of that run, one row at least. Raises RunNotFoundError, ValueError, PgflowError."""
        chosen = _uuid(run_id)
        self._calls.database.check_process()
        rows: list[Any] = self._calls.off_main(
            lambda: self._calls.resending(lambda conn: conn.execute(query, ([str(chosen)],)).fetchall())
        )
        if not rows:
            raise RunNotFoundError(f"there is no run {chosen}")
        return rows

    def _resolve(self, flow: Any) -> tuple[str, FlowDefinition | None]:
        if isinstance(flow, str):
            if not flow.isascii():
                raise unknown_flow(flow)
            return flow, self._definitions(flow)
        definition = definition_of(flow)
        return definition.slug, definition

    def wait(self, run: Run, timeout: float | None) -> Run:
        """As `Run.wait`."""
        return self._endings.wait(run, timeout, self)

    def may_have_ended(self, run_ids: Iterable[UUID]) -> None:
        """These runs may be finished by now: who waits for them looks at once. Does not wait itself."""
        self._waits.may_have_ended(run_ids)


def _dropped(calls: Calls) -> None:
    """On whatever thread the garbage is collected. Does not wait."""
    calls.close()
    if calls.database.abandon():
        warnings.warn(
            "a PgflowClient was dropped without close(): its connections end now", ResourceWarning, stacklevel=2
        )


def _uuid(run_id: UUID | str) -> UUID:
    try:
        return run_id if isinstance(run_id, UUID) else UUID(run_id)
    except (ValueError, AttributeError, TypeError):
        msg = f"run_id must be a UUID, got {run_id!r}"
        raise ValueError(msg) from None
