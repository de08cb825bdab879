"""`LentClient`: a client on connections that somebody else has, a web framework's say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

from pgflow_starter.clock import Clock
from pgflow_starter.core.definition import FlowDefinition
from pgflow_starter.postgres.client.callers_transaction import callers_transaction
from pgflow_starter.postgres.client.calls import Calls
from pgflow_starter.postgres.client.client import Client
from pgflow_starter.postgres.client.run import Run, RunReader
from pgflow_starter.postgres.client.starts import Starts
from pgflow_starter.postgres.connections.connection import Connection
from pgflow_starter.postgres.connections.momentary import Momentary
from pgflow_starter.postgres.stores.fast_lane.lane import FastLane

if TYPE_CHECKING:
    from pgflow_starter.ports import MessageObserver

T = TypeVar("T")

Lend = Callable[[], AbstractContextManager[Any]]
"""A connection for the time of one call, on the caller's thread: one that `connection=` takes."""


class LentClient(Client):
    """Starts and reads runs on connections that are lent for each call, in whatever transaction they are in.

    So it sees what that transaction has started. It keeps no session and no thread itself: to bring a flow into the
    database, to wait for a run, to cancel, delete or start one again it has a session that ends with the call, and
    sees what is committed. Thread-safe where `lend` is; for the process that makes the first call.
    """

    def __init__(self, conninfo: str, lend: Lend, observer: MessageObserver, clock: Clock) -> None:
        calls, fast_lane = Calls(Momentary(conninfo, clock=clock)), FastLane(clock)
        self._setup(calls, observer, clock, _nothing, _nothing, fast_lane, _nothing)
        self._starts = _LentStarts(calls, observer, _nothing, fast_lane, lend)
        self._lend = lend
        self._own = partial(Client, conninfo, observer, clock, patience=calls.database.patience)

    def wait(self, run: Run, timeout: float | None) -> Run:
        """As `Run.wait`."""
        with closing(self._own()) as own:
            return replace(own.wait(run, timeout), _client=self)

    def _asked(self, question: Callable[[Connection], T]) -> T:
        self._calls.database.check_process()
        with self._lend() as lent, callers_transaction(lent) as conn:
            return question(conn)


class _LentStarts(Starts):
    def __init__(
        self,
        calls: Calls,
        observer: MessageObserver,
        started: Callable[[str], None],
        fast_lane: FastLane,
        lend: Lend,
    ) -> None:
        super().__init__(calls, observer, started, fast_lane)
        self._lend = lend

    def start(
        self,
        client: RunReader,
        slug: str,
        definition: FlowDefinition | None,
        inputs: Sequence[str],
        run_ids: Sequence[UUID],
        connection: Any = None,
        **more: Any,
    ) -> list[Run]:
        """As `Starts.start`, in the lent connection's transaction where no other is given."""
        if connection is not None:
            return super().start(client, slug, definition, inputs, run_ids, connection, **more)
        with self._lend() as lent:
            return super().start(client, slug, definition, inputs, run_ids, lent, **more)


def _nothing(_: object) -> None:
    return None
