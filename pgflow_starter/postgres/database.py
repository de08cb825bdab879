"""`Database`: a connection pool behind one shared probe.

While the database is not known to be up nobody but the probe connects, at most twice a second however many wait; and
as soon as it answers, all who wait go on at once. A pool of which a connection broke is thrown away whole; one that
only cannot grow, the server having no connection to spare or refusing new ones, is kept.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import psycopg

from pgflow_starter.core.classify import classify
from pgflow_starter.core.state import ErrorClass, Outage, Phase
from pgflow_starter.errors import DatabaseError, ForkedError, SetupError
from pgflow_starter.ports import CancelScope, Clock, Died
from pgflow_starter.postgres.connection import Connection, gated
from pgflow_starter.postgres.conninfo import CONNECT_TIMEOUT, Redactor, answer_limit, connect_options
from pgflow_starter.postgres.errors import UNPREPARED, crowded, no_thread, translate
from pgflow_starter.postgres.interruptible import InterruptibleBlock
from pgflow_starter.postgres.limits import Limit, Limits
from pgflow_starter.postgres.pace import Pace
from pgflow_starter.postgres.pool import Pool
from pgflow_starter.postgres.prober import Prober
from pgflow_starter.postgres.readable import refuse_unreadable

logger = logging.getLogger("pgflow_starter.database")

CANCEL_TIMEOUT = 2.0
"""Seconds that a request to cancel a statement may take."""

CANCEL_PATIENCE = 1.0
"""Seconds that it may wait for its turn to connect; else there is none."""

PREPARE_AFTER = 2
"""Executions after which a statement is prepared, where the server itself is at the other end."""

HURRY_LIMIT = 3.0
"""Seconds that a statement may still take once the starter stops."""

_PROBE = "select current_setting('transaction_read_only'), pg_backend_pid()"


class Database:
    """Pooled connections in autocommit mode. Thread-safe.

    `patience` is how long, in seconds, a caller waits for the probe's next answer and for a free connection. `pace` is
    shared with whoever else connects for the same starter.
    """

    def __init__(
        self, conninfo: str, *, pool_size: int, clock: Clock, patience: float = 30.0, pace: Pace | None = None
    ) -> None:
        self.redact = Redactor(conninfo)
        self._conninfo = conninfo
        self._options = connect_options(conninfo)
        self._answer_limit = answer_limit(conninfo)
        self._limits = Limits("pgflow-database-limits", clock)
        self._pool_size = pool_size
        self._clock = clock
        self._patience = patience
        self._pace = pace or Pace(clock)
        self._lock = threading.RLock()  # around the next line's; reentrant as the pool's is
        self._cancelling = threading.Lock()
        self._pool: Pool | None = None
        self._prober = Prober(
            clock, self._pace, probe=self._probe, up=self._up, away=self._away, ended=self._close_connections
        )
        self._gated = gated(lambda: not self._prober.closed)
        self._prepare_threshold: int | None = None
        self._may_prepare = True
        self._owner: int | None = None

    @property
    def outage(self) -> Outage | None:
        """Since when the database is away, None while it is not known to be. Never waits."""
        return self._prober.outage

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

    def watch(self, back: Callable[[], object]) -> None:
        """Call `back`, on the probe's thread, each time the database is reachable again."""
        self._prober.watch(back)

    def revive(self, died: Died | None = None) -> None:
        """Begin to probe, on a thread; returns at once. Idempotent. As `ports.Threaded.revive`."""
        self.check_process()
        self._prober.revive(died)

    def doubt(self, answered: Callable[[], object]) -> None:
        """Have the probe look at once; `answered` is called, on the probe's thread, when it knows."""
        self.revive()
        self._prober.doubt(answered)

    def make_room(self) -> bool:
        """Have one connection less, for one of ours that the server refused. False where there is none to give up."""
        pool = self._pool
        return pool is not None and pool.make_room()

    @contextmanager
    def connection(
        self, scope: CancelScope | None = None, *, patience: float | None = None, answers: float = 1.0
    ) -> Iterator[Connection]:
        """A connection for the duration of the block. Raises DatabaseError: also for what statements in it raise.

        Waits for the probe's next answer while the database is away, then for a free connection. Cancelling `scope`
        interrupts the statement that runs. The block may take `answers` times as long as a server may be silent (15 s,
        or the connection string's `tcp_user_timeout`; inf: for ever), then the connection breaks.
        """
        pool, conn = self._checkout(self._patience if patience is None else patience)
        busy: Limit | None = None
        try:
            with self._limits.on(conn, self._answer_limit * answers) as busy:
                if scope is None:
                    yield conn
                else:
                    block = InterruptibleBlock(conn)
                    with block, scope.interruptible(partial(self._cancel, block, busy)):
                        yield conn
        except psycopg.Error as raised:
            error = translate(raised, self.redact)
            if busy is not None and busy.given_up:
                msg = f"the server did not answer within {self._answer_limit * answers:g} s, and was given up"
                error = DatabaseError(msg, error_type="AnswerTimeout", connection_lost=True)
            if raised.sqlstate in UNPREPARED:
                self._may_prepare = False  # a pooler that does not look like one
            if error.connection_lost:
                self._broke(pool)
            raise error from raised
        finally:
            if conn.broken:
                self._broke(pool)
            pool.put(conn)

    def hurry(self) -> None:
        """From now on nobody waits for a database that is away, nor long for one that does not answer."""
        self._prober.hurry()
        self._limits.shorten_all(HURRY_LIMIT)

    def close(self) -> None:
        """Close all connections; who waits for one gets a DatabaseError. Takes a second or two at most. Idempotent."""
        if self.foreign:
            return  # it would tell the server that the parent leaves
        self._prober.close(wait=False)
        self._close_connections()
        self._prober.close()

    def abandon(self) -> bool:
        """Nobody is left to use it: the probe's thread closes all connections on its way out. Does not wait.

        False where there is nothing to be closed by us.
        """
        if self._owner != os.getpid() or self._prober.closed:
            return False
        self._prober.close(wait=False)
        return True

    def _checkout(self, patience: float) -> tuple[Pool, Connection]:
        try:
            self.revive()
        except RuntimeError as error:
            raise no_thread(error) from error
        deadline = self._clock.monotonic() + patience
        while True:
            pool = self._admitted(deadline, patience)
            conn = pool.get(max(0.0, deadline - self._clock.monotonic()))
            if conn is not None:
                return pool, conn
            # The pool was thrown away while we waited: there is another, or a reason why not.

    def _admitted(self, deadline: float, patience: float) -> Pool:
        """The pool, once the probe has answered. Raises DatabaseError where it says that there is none."""
        prober = self._prober
        while True:
            left = deadline - self._clock.monotonic()
            if self._pool is None:
                prober.await_answer(left, unless=lambda: self._pool)
            pool, error = self._pool, prober.error
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

    def _up(self) -> None:
        """The database answers: a pool, unless there is a good one."""
        with self._lock:
            if self._pool is None and not self._prober.closed:
                self._pool = self._new_pool()
            pool = self._pool
        if pool is not None:
            pool.grow_again()

    def _away(self, error: DatabaseError) -> bool:
        """Whether this is an outage: not where new connections are refused by a server to which there are good ones."""
        pool = self._pool
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

    def _broke(self, pool: Pool) -> None:
        """A connection of this pool broke, so the others are not to be trusted: probe at once, then a new pool."""
        if self._throw_away(pool):
            self._prober.doubt()

    def _throw_away(self, pool: Pool | None) -> bool:
        with self._lock:
            if pool is None or self._pool is not pool:
                return False
            self._pool = None
        pool.close()
        return True

    def _new_pool(self) -> Pool:
        wanted = gated(lambda: not pool.closed)

        options = {**self._options, "prepare_threshold": self._prepare_threshold}

        def connect() -> Connection:
            self._pace.reserve()  # waits for nobody, but whoever comes after it does while the server does not answer
            conn = wanted.connect(self._conninfo, **options)
            self._pace.give_back()
            return conn

        def failed(error: psycopg.Error) -> None:
            # What the pool has may be good: a crowded server is there, else the probe shall tell.
            if crowded(error) and not pool.empty:
                self._pace.give_back()
                pool.make_do()
            else:
                self._prober.doubt()

        pool = Pool(connect, size=self._pool_size, clock=self._clock, failed=failed)
        return pool

    def _cancel(self, block: InterruptibleBlock, limit: Limit) -> None:
        # First: the request to cancel, or the server's answer to it, may get lost as well.
        self._limits.shorten(limit, 2 * CANCEL_TIMEOUT)
        # A request is a connection attempt, too. One at a time: while they are answered none has to wait for its turn.
        deadline = self._clock.monotonic() + CANCEL_PATIENCE
        if not self._cancelling.acquire(timeout=CANCEL_PATIENCE):
            return
        try:
            turn = None
            if self.outage is None:
                turn = self._pace.reserve_within(deadline - self._clock.monotonic())
            if turn is None or self._prober.closed_within(turn) or self.outage is not None:
                return  # the limit will break the connection
            self._pace.begin()
            block.interrupt(CANCEL_TIMEOUT)
            self._pace.give_back()
        except psycopg.Error as error:
            logger.debug("cancelling a statement failed: %s", type(error).__name__)
        finally:
            self._cancelling.release()

    def _close_connections(self) -> None:
        self._throw_away(self._pool)
        self._limits.close()

    def _probe(self) -> DatabaseError | None:
        try:
            refuse_unreadable(self._conninfo)
            with (
                self._gated.connect(self._conninfo, **self._options) as conn,
                self._limits.on(conn, CONNECT_TIMEOUT),
            ):
                read_only, pid = conn.execute(_PROBE).fetchone() or (None, None)
                # A pooler makes the pid up. Prepared statements are session state, which it may not keep.
                direct = self._may_prepare and pid == conn.info.backend_pid
                self._prepare_threshold = PREPARE_AFTER if direct else None
                # Read-only after a failover: it answers, but is not the one to work with.
                if read_only == "on":
                    return DatabaseError("the server is read-only (a standby)", sqlstate="25006", connection_lost=True)
        except SetupError as error:
            # libpq's own words would show the piece that it stumbled over, and that may be the password's.
            return DatabaseError(f"connection string: {error}", error_type="ProgrammingError", connection_lost=True)
        except Exception as error:
            return translate(error, self.redact)
        return None
