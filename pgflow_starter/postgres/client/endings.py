"""`Endings`: runs are waited for, and read when they have ended.

The question that serves all who wait is a light one, for statuses. What a run carries is read by its own waiter, on a
connection of its own: one of many megabytes over a slow line holds up nobody else.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from math import inf
from queue import Empty, SimpleQueue
from typing import Any
from uuid import UUID

from pgflow_starter.clock import Clock, one_wait
from pgflow_starter.errors import DatabaseError
from pgflow_starter.postgres.client.calls import Calls
from pgflow_starter.postgres.client.run import FIND, STATUSES, Run, RunFacts, RunReader, run_of
from pgflow_starter.postgres.client.starts import LARGE_ANSWERS
from pgflow_starter.postgres.client.waiter import LAST_PAUSE, deleted
from pgflow_starter.postgres.client.waits import LONGEST_LOOK, Waits
from pgflow_starter.postgres.connections.connection import Connection
from pgflow_starter.threads.off_main import NoThreadError

SHORTEST_READ = 1.0
"""Seconds that a run which has ended may keep its waiter, whose time is over, waiting for a connection or a lock."""

ANSWER = 15.0
"""Seconds that who waits must have left for each time that its run's row may take as long as a server may be silent."""

_PASSING_STATES = ("57014", "55P03")  # it took too long: the statement, a lock
_PASSING_TYPES = ("PoolTimeout", "NoThread")


class Endings:
    """Of one client. Thread-safe."""

    def __init__(self, calls: Calls, waits: Waits, clock: Clock) -> None:
        self._calls = calls
        self._waits = waits
        self._clock = clock

    def wait(self, run: Run, timeout: float | None, client: RunReader) -> Run:
        """As `Run.wait`."""
        self._calls.database.check_process()
        deadline = inf if timeout is None else self._clock.monotonic() + timeout
        while not run.finished:
            status = self._waits.wait(run, timeout, self.look)
            run = self._whole(run, status, deadline, client)
            # Not finished where it was deleted and started anew meanwhile.
            timeout = None if timeout is None else max(0.0, deadline - self._clock.monotonic())
        return run

    def look(self, run_ids: Collection[UUID], seconds: float) -> dict[UUID, str] | None:
        """The statuses of those runs that are there; None where the database cannot say. Raises PgflowError."""
        rows = self._asked(STATUSES, run_ids, patience=seconds, at_server=seconds)
        return None if rows is None else {UUID(run_id): status for run_id, status in rows}

    def _whole(self, run: Run, status: str, deadline: float, client: RunReader) -> Run:
        """The run as it is now, when it was seen to be finished. Raises TimeoutError, RunNotFoundError, PgflowError."""
        while True:
            left = deadline - self._clock.monotonic()
            whole = self.read(run, left, client)
            if whole is not None:
                return whole
            if left <= 0:
                raise unread(run, status)
            with suppress(Empty):
                SimpleQueue[None]().get(timeout=one_wait(min(left, LAST_PAUSE)))

    def read(self, run: RunFacts, left: float, client: RunReader) -> Run | None:
        """The run as it is now, None where it cannot be read; its waiter has so many seconds left. Blocks on I/O.

        Raises RunNotFoundError, PgflowError.
        """
        seconds = max(SHORTEST_READ, min(left, LONGEST_LOOK))
        answers = max(1.0, min(left / ANSWER, LARGE_ANSWERS))
        rows = self._asked(FIND, [run.id], patience=seconds, lock=seconds, answers=answers)
        if rows:
            return run_of(rows[0], client)
        if rows is not None:
            raise deleted(run)
        return None

    def _asked(self, query: str, run_ids: Collection[UUID], **limits: float) -> list[Any] | None:
        """The rows; None when the database cannot say within these limits. Raises PgflowError."""
        ids = [str(run_id) for run_id in run_ids]

        def ask(conn: Connection) -> list[Any]:
            return conn.execute(query, (ids,)).fetchall()

        try:
            return self._calls.threads(lambda: self._calls.database.call(ask, None, **limits))
        except NoThreadError:
            return None
        except DatabaseError as error:
            passing = error.connection_lost or error.sqlstate in _PASSING_STATES or error.error_type in _PASSING_TYPES
            if not passing or self._calls.closed:
                raise self._calls.callers_error(error) from error
            return None


def unread(run: RunFacts, status: str) -> TimeoutError:
    """What is told to who waits for a run that has ended, when the time is over and it could not be read."""
    return TimeoutError(f"run {run.id} of flow {run.flow_slug!r} is {status}, but cannot be read in time")
