"""`Life`: what a client stands on: made, over which database, closed; how its calls are asked and told of errors."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Self, TypeVar
from uuid import UUID

from pgflow_starter.clock import Clock
from pgflow_starter.core.definition import FlowDefinition
from pgflow_starter.core.modules import definition_of
from pgflow_starter.errors import PgflowError, RunNotFoundError
from pgflow_starter.postgres.client.calls import Calls
from pgflow_starter.postgres.client.cancelling import Cancelling
from pgflow_starter.postgres.client.coroutines import Coroutines
from pgflow_starter.postgres.client.endings import Endings
from pgflow_starter.postgres.client.reruns import Reruns
from pgflow_starter.postgres.client.starts import Starts, unknown_flow
from pgflow_starter.postgres.client.waits import Waits
from pgflow_starter.postgres.connections.connection import Connection
from pgflow_starter.postgres.connections.database import Database
from pgflow_starter.postgres.stores.fast_lane.lane import FastLane

if TYPE_CHECKING:
    from pgflow_starter.ports import MessageObserver

T = TypeVar("T")

CLIENT_POOL_SIZE = 4


class Life:
    """What every call of a client stands on. Thread-safe."""

    _dropped: weakref.finalize[Any, Any] | None

    def __init__(self, conninfo: str, observer: MessageObserver, clock: Clock, *, patience: float) -> None:
        """Over a small pool of its own that opens with the first call; one that is dropped without `close` ends it."""
        if not isinstance(conninfo, str):
            msg = f"conninfo must be a libpq connection string or URI, got {type(conninfo).__name__}"
            raise ValueError(msg)
        database = Database(conninfo, pool_size=CLIENT_POOL_SIZE, clock=clock, patience=patience)
        self._setup(Calls(database), observer, clock, lambda _: None, lambda _: None, FastLane(clock), lambda _: None)
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
        runs_ended: Callable[[Sequence[UUID]], object],
    ) -> Self:
        """A client over a starter's pool.

        `definitions` finds the definition of a slug that the starter has; `started` is told the slug of each run that
        was started and committed. `ended` makes what calls raise that meet the starter's end. `runs_ended` is told of
        those that were cancelled.
        """
        client = cls.__new__(cls)
        Life._setup(client, Calls(database, ended), observer, clock, definitions, started, fast_lane, runs_ended)
        return client

    def _setup(
        self,
        calls: Calls,
        observer: MessageObserver,
        clock: Clock,
        definitions: Callable[[str], FlowDefinition | None],
        started: Callable[[str], None],
        fast_lane: FastLane,
        runs_ended: Callable[[Sequence[UUID]], object],
    ) -> None:
        self._calls = calls
        self._definitions = definitions
        self._starts = Starts(calls, observer, started, fast_lane)
        self._dropped = None
        self._waits = Waits(clock)
        self._endings = Endings(calls, self._waits, clock)
        self._reruns = Reruns(calls, self._starts)
        self._cancelling = Cancelling(calls, runs_ended, observer)
        self._coroutines = Coroutines(calls, self._waits, self._endings, clock)

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
        self._calls.awaited.close()

    def _rows(self, query: str, run_id: UUID | str) -> list[Any]:
        """What the query finds of that run, one row at least. Raises RunNotFoundError, ValueError, PgflowError."""
        chosen = uuid_of(run_id)
        rows: list[Any] = self._asked(lambda conn: conn.execute(query, ([str(chosen)],)).fetchall())
        if not rows:
            raise RunNotFoundError(f"there is no run {chosen}")
        return rows

    def _asked(self, question: Callable[[Connection], T]) -> T:
        """The answer to what changes nothing, on a connection. Raises what it raises, and PgflowError."""
        self._calls.database.check_process()
        return self._calls.off_main(lambda: self._calls.resending(question))

    def _resolve(self, flow: Any) -> tuple[str, FlowDefinition | None]:
        if isinstance(flow, str):
            if not flow.isascii():
                raise unknown_flow(flow)
            return flow, self._definitions(flow)
        definition = definition_of(flow)
        return definition.slug, definition


def _dropped(calls: Calls) -> None:
    """On whatever thread the garbage is collected. Does not wait."""
    calls.close()
    calls.awaited.close()
    if calls.database.abandon():
        warnings.warn(
            "a PgflowClient was dropped without close(): its connections end now", ResourceWarning, stacklevel=2
        )


def uuid_of(run_id: UUID | str) -> UUID:
    """A run's id as a UUID. Raises ValueError."""
    try:
        return run_id if isinstance(run_id, UUID) else UUID(run_id)
    except (ValueError, AttributeError, TypeError):
        # What is no text may be a run itself, which holds its input.
        msg = f"run_id must be a UUID, got {repr(run_id) if isinstance(run_id, str) else f'a {type(run_id).__name__}'}"
        raise ValueError(msg) from None
