"""`Database`: a connection pool behind one shared probe.

While the database is not known to be up nobody but the probe connects, at most twice a second however many wait; and
as soon as it answers, all who wait go on at once.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg
from psycopg.pq import TransactionStatus

from pgflow_starter.clock import Clock
from pgflow_starter.core.state import Outage
from pgflow_starter.errors import DatabaseError, ForkedError
from pgflow_starter.postgres.connections.backend_budget import BackendBudget
from pgflow_starter.postgres.connections.canceller import CANCEL_TIMEOUT, Canceller
from pgflow_starter.postgres.connections.connection import LOCK_LIMIT, SERVER_SHARE, Session, server_limits
from pgflow_starter.postgres.connections.errors import UNPREPARED, no_thread, stale, translate
from pgflow_starter.postgres.connections.pace import Pace
from pgflow_starter.postgres.connections.pool import Counts, Pool
from pgflow_starter.postgres.connections.pools import Pools
from pgflow_starter.postgres.connections.prober import Prober
from pgflow_starter.postgres.connections.server import Server
from pgflow_starter.postgres.connections.time_limits import TimeLimit, TimeLimits
from pgflow_starter.threads.own_thread import Died

if TYPE_CHECKING:
    from pgflow_starter.ports import CancelScope

T = TypeVar("T")

HURRY_LIMIT = 3.0
"""Seconds that a statement may still take once the starter stops."""

NEARLY = 0.9
"""Of the server's own limit: a statement that was cancelled after so much of it has reached it."""

QUERY_CANCELED = "57014"


class Database:
    """Pooled connections in autocommit mode. Thread-safe.

    `patience` is how long, in seconds, a caller waits for the probe's next answer and for a free connection. `pace` is
    shared with whoever else connects for the same starter.
    """

    def __init__(
        self,
        conninfo: str,
        *,
        pool_size: int,
        clock: Clock,
        patience: float = 30.0,
        pace: Pace | None = None,
        reserved_for_urgent: int = 0,
    ) -> None:
        self.clock = clock
        self.patience = patience
        pace = pace or Pace(clock)
        budget = BackendBudget(pool_size, reserved_for_urgent=reserved_for_urgent)

        def closed_within(seconds: float) -> bool:
            return self._prober.closed_within(seconds)

        self._canceller = Canceller(pace, clock, away=lambda: self.outage, closed_within=closed_within)
        self._limits = TimeLimits("pgflow-database-limits", clock, self._canceller.cancel)
        self._server = Server(conninfo, limits=self._limits, pace=pace, budget=budget, closed_within=closed_within)
        self.redact = self._server.redact
        self._budget = budget
        self._pools = Pools(self._server, budget=budget, pace=pace, clock=clock, doubt=lambda: self._prober.doubt(None))
        self._prober = Prober(
            clock,
            pace,
            probe=lambda: self._server.probe() or self._pools.open(),
            up=self._pools.grow_again,
            away=self._pools.away,
            ended=self._close_connections,
            look_again=lambda: bool(budget.left_behind),
        )
        self._owner: int | None = None

    @property
    def outage(self) -> Outage | None:
        """Since when the database is away, None while it is not known to be. Never waits."""
        return self._prober.outage

    @property
    def name(self) -> str:
        """As it was last connected to, empty before it was. Never waits."""
        return self._server.database_name

    @property
    def foreign(self) -> bool:
        """Whether the connections are those of a process that forked into this one: hands off."""
        return self._owner not in (None, os.getpid())

    def check_process(self) -> None:
        """Raise ForkedError in a child of the process that began to connect; nobody's yet, it becomes this one's.

        To be called before any lock is taken: one that a thread of the parent held at the fork is held for ever.
        """
        if self._owner is None:
            self._owner = os.getpid()
        if self.foreign:
            msg = f"these connections belong to process {self._owner}, which forked into this one: make a client here"
            raise ForkedError(msg)

    def limit_of(self, answers: float = 1.0) -> float:
        """Seconds that a call may take which may take `answers` times as long as a server may be silent."""
        return self._server.answer_limit * answers

    def watch(self, back: Callable[[], object]) -> None:
        """Call `back`, on the probe's thread, each time the database is reachable again."""
        self._prober.watch(back)

    def revive(self, died: Died | None = None) -> None:
        """Begin to probe, on a thread; returns at once. Idempotent. As `Threaded.revive`."""
        self.check_process()
        self._prober.revive(died)

    def doubt(self, answered: Callable[[], object]) -> None:
        """Have the probe look at once; `answered` is called, on the probe's thread, when it knows."""
        self.revive()
        self._prober.doubt(answered)

    def counts(self) -> Counts:
        """Those of the pool that is in use; all are 0 while there is none. Never waits."""
        pool = self._pools.current
        return Counts() if pool is None else pool.counts()

    @property
    def busy(self) -> int:
        """How many connections are used or made. Never waits."""
        return self._limits.busy

    def make_room(self) -> bool:
        """Have one connection less, for one of ours that the server refused. False where there is none to give up."""
        return self._pools.make_room()

    def call(self, work: Callable[[Session], T], scope: CancelScope | None = None, **limits: Any) -> T:
        """What `work` returns, called with a connection; called once more where the session was to blame.

        That is when the server has ended it, or when it remembers what somebody has changed since. Then nothing of what
        `work` did on it has come to stay. Otherwise as `connection`, `limits` included.
        """
        try:
            with self.connection(scope, **limits) as conn:
                return work(conn)
        except DatabaseError as error:
            if self._prober.hurried or not error.once_more:
                raise
        with self.connection(scope, **limits) as conn:
            return work(conn)

    @contextmanager
    def connection(
        self,
        scope: CancelScope | None = None,
        *,
        patience: float | None = None,
        answers: float = 1.0,
        within: float = inf,
        at_server: float = inf,
        lock: float = LOCK_LIMIT,
        urgent: bool = False,
    ) -> Iterator[Session]:
        """A connection for the duration of the block. Raises DatabaseError: also for what statements in it raise.

        Waits for the probe's next answer while the database is away, then for a free connection; who is `urgent` waits
        behind one other at most. Cancelling `scope` interrupts the statement that runs. The block may take `answers`
        times as long as a server may be silent (15 s, or the connection string's `tcp_user_timeout`; inf: for ever),
        and `within` seconds at most; a statement two thirds of that, and `at_server` seconds at most, then the server
        ends it (see `TimeLimits`). It waits `lock` seconds for a lock.
        """
        pool, conn = self._checkout(self.patience if patience is None else patience, urgent)
        seconds = min(self.limit_of(answers), within, self._limits.longest)
        began = self.clock.monotonic()
        word: str | None = None
        try:
            wanted = server_limits(min(seconds, at_server / SERVER_SHARE), lock)
            kept = conn.backend is not None and self._server.may_prepare  # what is set for the session stays so
            conn.limit_by(None if kept and wanted == self._server.usual else wanted)
            with self._limits.on(conn, seconds) as busy:
                if scope is None:
                    yield conn
                else:
                    with scope.interruptible(partial(self._interrupt, busy)):
                        yield conn
        except psycopg.Error as raised:
            word = raised.sqlstate
            if word in UNPREPARED:
                self._server.may_prepare = False  # a pooler that does not look like one
            error = self._error_of_block(raised, seconds, self.clock.monotonic() - began, given_up=busy.given_up)
            direct = conn.backend is not None
            if error.connection_lost:
                self._pools.broke(pool)
                # Who has the server's own word for it knows that the transaction was rolled back; a pooler's says
                # nothing of what the server did.
                told = word is not None and (direct or word in UNPREPARED) and not word.startswith("08")
                error.once_more, error.unknown = told, not told
            elif stale(error):
                error.once_more = self._pools.replace(pool, conn, raised)
            raise error from raised
        finally:
            conn.used = True
            self._put(pool, conn, word)

    def limited(self, conn: Session, seconds: float) -> AbstractContextManager[object]:
        """Around a part of a block of `connection` without a limit of its own: so long for that part."""
        return self._limits.on(conn, seconds)

    def _error_of_block(self, raised: psycopg.Error, seconds: float, took: float, *, given_up: bool) -> DatabaseError:
        """The error of a block, with what is known of how it came out."""
        if given_up:
            msg = f"the server did not answer within {seconds:g} s, and was given up"
            error = DatabaseError(msg, error_type="AnswerTimeout", connection_lost=True, timed_out=True)
        else:
            error = translate(raised, self.redact)
            error.timed_out = error.sqlstate == QUERY_CANCELED and took >= seconds * SERVER_SHARE * NEARLY
        return error

    def _put(self, pool: Pool, conn: Session, word: str | None) -> None:
        """Back into the pool, which closes what is of no use; `word` is the SQLSTATE of the server's last."""
        busy = conn.pgconn.transaction_status in (TransactionStatus.ACTIVE, TransactionStatus.UNKNOWN)
        if busy and word is None:
            # At work perhaps, and that may take as long as somebody's lock: the probe sees to its end.
            self._budget.leave_behind(conn.backend)
            self._prober.doubt()
        if conn.broken:
            self._pools.broke(pool)
        pool.put(conn)

    def hurry(self) -> None:
        """From now on nobody waits for a database that is away, nor long for one that does not answer."""
        self._prober.hurry()
        self._limits.shorten_all(HURRY_LIMIT)

    def close(self) -> None:
        """Close all connections; who waits for one gets a DatabaseError. Takes a second or two at most. Idempotent."""
        if self.foreign:
            return  # it would tell the server that the parent leaves
        self._prober.close(wait=False)  # whose thread closes the pool on its way out: no signal is handled there
        self._limits.close()
        self._prober.close()
        self._close_connections()  # where there is no such thread, or it hangs

    def abandon(self) -> bool:
        """Nobody is left to use it: the probe's thread closes all connections on its way out. Does not wait.

        False where there is nothing to be closed by us.
        """
        if self._owner != os.getpid() or self._prober.closed:
            return False
        self._prober.close(wait=False)
        return True

    def _checkout(self, patience: float, urgent: bool) -> tuple[Pool, Session]:
        try:
            self.revive()
        except RuntimeError as error:
            raise no_thread(error) from error
        deadline = self.clock.monotonic() + patience
        while True:
            pool = self._admitted(deadline, patience)
            conn = pool.get(max(0.0, deadline - self.clock.monotonic()), urgent=urgent)
            if conn is not None:
                return pool, conn
            # The pool was thrown away while we waited: there is another, or a reason why not.

    def _admitted(self, deadline: float, patience: float) -> Pool:
        """The pool, once the probe has answered. Raises DatabaseError where it says that there is none."""
        prober = self._prober
        while True:
            left = deadline - self.clock.monotonic()
            if self._pools.current is None:
                prober.await_answer(left, unless=lambda: self._pools.current)
            pool, error = self._pools.current, prober.error
            if prober.closed:
                msg = "the connections of this starter or client are closed"
                raise DatabaseError(msg, error_type="PoolClosed", connection_lost=True)
            if pool is not None:
                return pool
            if error is not None:
                raise DatabaseError(
                    str(error), sqlstate=error.sqlstate, error_type=error.error_type, connection_lost=True
                )
            if prober.hurried or left <= 0:
                msg = "the starter stops" if prober.hurried else f"the database has not answered within {patience:g} s"
                raise DatabaseError(msg, error_type="ConnectionTimeout", connection_lost=True)

    def _interrupt(self, limit: TimeLimit) -> None:
        """Somebody wants a block to end."""
        # First: the request to cancel, or the server's answer to it, may get lost as well.
        self._limits.shorten(limit, 2 * CANCEL_TIMEOUT)
        self._canceller.cancel(limit)

    def _close_connections(self) -> None:
        self._pools.close()
        self._limits.close()
