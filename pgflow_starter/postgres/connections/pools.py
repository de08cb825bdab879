"""`Pools`: the one that is in use, and those before it, of which connections may be in use still.

A pool of which a connection broke is thrown away whole; one that only cannot grow, the server having no connection to
spare or refusing new ones, is kept.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import psycopg

from pgflow_starter.clock import Clock
from pgflow_starter.core.classify import classify
from pgflow_starter.core.phases import Phase
from pgflow_starter.core.state import ErrorClass
from pgflow_starter.errors import DatabaseError
from pgflow_starter.postgres.connections.backend_budget import BackendBudget
from pgflow_starter.postgres.connections.connection import Session
from pgflow_starter.postgres.connections.errors import crowded, no_thread
from pgflow_starter.postgres.connections.pace import Pace
from pgflow_starter.postgres.connections.pool import Pool
from pgflow_starter.postgres.connections.server import SHUTDOWN_STATES, Server

THREADS_END = 0.5
"""Seconds that a pool's threads get to end, once nobody is to use it any more."""

STALE_INTERVAL = 1.0
"""Seconds for which no session is taken to be to blame for an error that a fresh one had, too."""


class Pools:
    """Thread-safe. `doubt()` has the probe look at once."""

    def __init__(
        self, server: Server, *, budget: BackendBudget, pace: Pace, clock: Clock, doubt: Callable[[], object]
    ) -> None:
        self._server = server
        self._budget = budget
        budget.freed = self._freed
        self._pace = pace
        self._clock = clock
        self._doubt = doubt
        self._lock = threading.RLock()  # around the next two
        self._closed = False
        self.current: Pool | None = None
        self._genuine: dict[tuple[str | None, ...], float] = {}

    def open(self) -> DatabaseError | None:
        """The database answers: a pool, unless there is a good one. Why there is none for want of a thread."""
        with self._lock:
            if self.current is None and not self._closed:
                try:
                    self.current = self._new()
                except RuntimeError as error:
                    return no_thread(error)
        return None

    def grow_again(self) -> None:
        """The database answers."""
        pool = self.current
        if pool is not None:
            pool.grow_again()

    def away(self, error: DatabaseError) -> bool:
        """Whether this is an outage: not where new connections are refused by a server to which there are good ones."""
        pool = self.current
        if pool is None or pool.empty:
            self._throw_away(pool)
            return True
        if crowded(error):
            pool.make_room()  # smaller than it might be
            return False
        if classify(error, Phase.WORKER) is ErrorClass.PERMANENT:
            return False  # the pool grows no more until a probe is let in again
        self._throw_away(pool)
        return True

    def replace(self, pool: Pool, conn: Session, raised: psycopg.Error) -> bool:
        """Have fresh sessions instead of these, for what they may remember; False where a fresh one does no better."""
        now = self._clock.monotonic()
        kind = (raised.sqlstate, raised.diag.source_function, raised.diag.source_line)
        if not conn.used:
            self._genuine[kind] = now + STALE_INTERVAL
        if now < self._genuine.get(kind, 0.0):
            return False
        with self._lock:
            # Nobody may find none in between: the probe alone tells those who wait for one.
            fresh = self.current is pool and not self._closed
            if fresh:
                try:
                    self.current = self._new()
                except RuntimeError:  # no thread: the probe tries again
                    fresh = False
        if fresh:
            pool.close()
        elif self._throw_away(pool):
            self._doubt()
        return True

    def broke(self, pool: Pool) -> None:
        """A connection of this pool broke, so the others are not to be trusted: probe at once, then a new pool."""
        if self._throw_away(pool, broken=True):
            self._doubt()

    def make_room(self) -> bool:
        """Have one connection less, for one of ours that the server refused. False where there is none to give up."""
        pool = self.current
        return pool is not None and pool.make_room()

    def close(self) -> None:
        """Close all connections, those in use when they are put back. Idempotent; takes half a second at most."""
        with self._lock:
            self._closed = True
        self._throw_away(self.current, within=THREADS_END)

    def _new(self) -> Pool:
        def failed(error: BaseException) -> None:
            # What the pool has may be good: a crowded server is there, else the probe shall tell.
            if crowded(error) and not pool.empty:
                self._pace.give_back()
                pool.make_do()
            else:
                self._doubt()

        pool = Pool(
            self._server.sessions(lambda: not pool.closed),
            budget=self._budget,
            clock=self._clock,
            failed=failed,
            found_dead=lambda conn: self._found_dead(pool, conn),
        )
        return pool

    def _found_dead(self, pool: Pool, conn: Session) -> None:
        """An idle connection had ended. With one that the server ended by itself, for it was idle, nothing is wrong."""
        if conn.ended_by is None or conn.ended_by in SHUTDOWN_STATES:
            self.broke(pool)

    def _freed(self) -> None:
        pool = self.current
        if pool is not None:
            pool.look_again()

    def _throw_away(self, pool: Pool | None, *, broken: bool = False, within: float = 0.0) -> bool:
        with self._lock:
            if pool is None or self.current is not pool:
                return False
            self.current = None
        pool.close(broken=broken, within=within)
        return True
