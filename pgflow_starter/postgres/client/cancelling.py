"""`Cancelling`: runs are made to fail before they have ended, and whoever works on them is told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

import psycopg

from pgflow_starter.core.encoding import error_text
from pgflow_starter.errors import RunNotFoundError
from pgflow_starter.postgres.client.calls import Calls
from pgflow_starter.postgres.client.run import FIND
from pgflow_starter.postgres.client.traced_runs import tell_cancelled
from pgflow_starter.postgres.connections.connection import Connection
from pgflow_starter.postgres.stores.carrying import ENDED
from pgflow_starter.postgres.stores.failed_runs import fail_run
from pgflow_starter.postgres.stores.refusals import refuse_denied

if TYPE_CHECKING:
    from pgflow_starter.ports import MessageObserver

TRIES = 20
"""Times that a run is failed of which a task began, in a claim that locks no run, after the transaction had."""


class Cancelling:
    """Of one client. `ended(run_ids)` is told of runs that have ended, whoever ended them. Thread-safe."""

    def __init__(self, calls: Calls, ended: Callable[[Sequence[UUID]], object], observer: MessageObserver) -> None:
        self._calls = calls
        self._ended = ended
        self._observer = observer

    def cancel(self, run_id: UUID, reason: str) -> Any:
        """As `Client.cancel`: the run's row, for `run_of`."""
        if not isinstance(reason, str):
            msg = f"reason must be text, got {type(reason).__name__}"
            raise ValueError(msg)
        text = error_text(reason)
        return self._calls.off_main(lambda: self._cancel(run_id, text))

    def _cancel(self, run_id: UUID, text: str) -> Any:
        traces = self._observer.traces
        row, over = self._calls.resending(lambda conn: _failed(conn, run_id, text, traces=traces))
        if row is None:
            raise RunNotFoundError(f"there is no run {run_id}")
        self._ended([run_id])
        if over is not None:
            tell_cancelled(self._calls, self._observer, over)
        return row


def _failed(conn: Connection, run_id: UUID, text: str, *, traces: bool) -> tuple[Any, Any]:
    """The run's row, and where it is asked for that of `ENDED`, of a run that had not ended before."""
    tries = TRIES
    while True:
        tries -= 1
        try:
            with conn.transaction():
                fail_run(conn, run_id, text)
                over = conn.execute(ENDED, {"carried_runs": [run_id]}).fetchone() if traces else None
                return conn.execute(FIND, ([str(run_id)],)).fetchone(), over
        except psycopg.errors.CheckViolation:
            if not tries:
                raise
        except psycopg.errors.InsufficientPrivilege as error:
            refuse_denied(conn, error, ("work",), _flow_of(conn, run_id))


def _flow_of(conn: Connection, run_id: UUID) -> str | None:
    """None, too, where that may not be asked."""
    try:
        row: Any = conn.execute(FIND, ([str(run_id)],)).fetchone()
    except psycopg.errors.InsufficientPrivilege:
        return None
    return None if row is None else str(row[1])
