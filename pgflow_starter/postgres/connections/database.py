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
from math import inf
from typing import Any, TypeVar

import psycopg
from psycopg.pq import TransactionStatus

from pgflow_starter.clock import Clock
from pgflow_starter.core.classify import classify
from pgflow_starter.core.phases import Phase
from pgflow_starter.core.state import ErrorClass, Outage
from pgflow_starter.errors import DatabaseError, ForkedError, SetupError
from pgflow_starter.ports import CancelScope
from pgflow_starter.postgres.connections.connection import (
    LOCK_LIMIT,
    SERVER_SHARE,
    Backend,
    Session,
    gated,
    server_limits,
)
from pgflow_starter.postgres.connections.conninfo import CONNECT_TIMEOUT, Redactor, answer_limit, connect_options
from pgflow_starter.postgres.connections.errors import UNPREPARED, crowded, no_thread, stale, translate
from pgflow_starter.postgres.connections.limits import Limit, Limits
from pgflow_starter.postgres.connections.pace import Pace
from pgflow_starter.postgres.connections.pool import Pool
from pgflow_starter.postgres.connections.prober import Prober
from pgflow_starter.postgres.connections.readable import of_no_use, refuse_unreadable
from pgflow_starter.postgres.connections.room import Room
from pgflow_starter.threads.own_thread import Died

T = TypeVar("T")

logger = logging.getLogger("pgflow_starter.database")

CANCEL_TIMEOUT = 2.0
"""Seconds that a request to cancel a statement may take."""

CANCEL_LEAST = 0.05
"""Seconds that it may take however little of the limit is left."""

CANCEL_PATIENCE = 1.0
"""Seconds that it may wait for its turn to connect; else there is none."""

PREPARE_AFTER = 2
"""Executions after which a statement is prepared, where the server itself is at the other end."""

HURRY_LIMIT = 3.0
"""Seconds that a statement may still take once the starter stops."""

NEARLY = 0.9
"""Of the server's own limit: a statement that was cancelled after so much of it has reached it."""

QUERY_CANCELED = "57014"
SHUTDOWN_STATES = ("57P01", "57P02", "57P03")

END_PAUSES = (0.0, 0.005, 0.02, 0.05)
"""Seconds before each look whether backends that were to end have: a probe waits no longer for them."""

STALE_INTERVAL = 1.0
"""Seconds for which no session is taken to be to blame for an error that a fresh one had, too."""

_PROBE = "select current_setting('transaction_read_only'), pg_backend_pid()"
# Those of them that are there still, each told to end: that is a request, and somebody's lock does not keep it waiting.
_END_BACKENDS = """
select s.pid, o.began, case when o.began <> '' then pg_terminate_backend(s.pid) end
from unnest(%s::int[], %s::text[]) as o (pid, began)
join pg_stat_activity s on s.pid = o.pid and coalesce(extract(epoch from s.backend_start)::text, '') = o.began
"""


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
        kept: int = 0,
    ) -> None:
        self.redact = Redactor(conninfo)
        self.clock = clock
        self._conninfo = conninfo
        self._options = connect_options(conninfo)
        self._answer_limit = answer_limit(conninfo)
        self._usual = server_limits(self._answer_limit)
        self._limits = Limits("pgflow-database-limits", clock, self._cancel)
        self._room = Room(pool_size, self._freed)
        self._kept = kept
        self.patience = patience
        self._pace = pace or Pace(clock)
        self._lock = threading.RLock()  # around the next line's; reentrant as the pool's is
        self._cancelling = threading.Lock()
        self._pool: Pool | None = None
        self._genuine: dict[tuple[str | None, ...], float] = {}
        self._prober = Prober(
            clock,
            self._pace,
            probe=self._probe,
            up=self._up,
            away=self._away,
            ended=self._close_connections,
            look_again=lambda: bool(self._room.left_behind),
        )
        self._gated = gated(lambda: not self._prober.closed)
        self._prepare_threshold: int | None = None
        self._may_prepare = True
        self._direct = False
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

    def limit_of(self, answers: float = 1.0) -> float:
        """Seconds that a call may take which may take `answers` times as long as a server may be silent."""
        return self._answer_limit * answers

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
        behind nobody. Cancelling `scope` interrupts the statement that runs. The block may take `answers` times as long
        as a server may be silent (15 s, or the connection string's `tcp_user_timeout`; inf: for ever), and `within`
        seconds at most; a statement two thirds of that, and `at_server` seconds at most, then the server ends it (see
        `Limits`). It waits `lock` seconds for a lock.
        """
        pool, conn = self._checkout(self.patience if patience is None else patience, urgent)
        seconds = min(self.limit_of(answers), within, self._limits.longest)
        began = self.clock.monotonic()
        word: str | None = None
        try:
            wanted = server_limits(min(seconds, at_server / SERVER_SHARE), lock)
            kept = conn.backend is not None and self._may_prepare  # what is set for the session stays so
            conn.limit_by(None if kept and wanted == self._usual else wanted)
            with self._limits.on(conn, seconds) as busy:
                if scope is None:
                    yield conn
                else:
                    with scope.interruptible(partial(self._interrupt, busy)):
                        yield conn
        except psycopg.Error as raised:
            word = raised.sqlstate
            if word in UNPREPARED:
                self._may_prepare = False  # a pooler that does not look like one
            error = self._told(raised, seconds, self.clock.monotonic() - began, given_up=busy.given_up)
            direct = conn.backend is not None
            if error.connection_lost:
                self._broke(pool)
                # Who has the server's own word for it knows that the transaction was rolled back; a pooler's says
                # nothing of what the server did.
                told = word is not None and (direct or word in UNPREPARED) and not word.startswith("08")
                error.once_more, error.unknown = told, not told
            elif stale(error):
                error.once_more = self._replace(pool, conn, raised)
            raise error from raised
        finally:
            conn.used = True
            self._put(pool, conn, word)

    def _told(self, raised: psycopg.Error, seconds: float, took: float, *, given_up: bool) -> DatabaseError:
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
            self._room.leave_behind(conn.backend)
            self._prober.doubt()
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

    def _replace(self, pool: Pool, conn: Session, raised: psycopg.Error) -> bool:
        """Have fresh sessions instead of these, for what they may remember; False where a fresh one does no better."""
        now = self.clock.monotonic()
        kind = (raised.sqlstate, raised.diag.source_function, raised.diag.source_line)
        if not conn.used:
            self._genuine[kind] = now + STALE_INTERVAL
        if now < self._genuine.get(kind, 0.0):
            return False
        if self._throw_away(pool):
            self._up()
        return True

    def _found_dead(self, pool: Pool, conn: Session) -> None:
        """An idle connection had ended. With one that the server ended by itself, for it was idle, nothing is wrong."""
        if conn.ended_by is None or conn.ended_by in SHUTDOWN_STATES:
            self._broke(pool)

    def _freed(self) -> None:
        pool = self._pool
        if pool is not None:
            pool.look_again()

    def _broke(self, pool: Pool) -> None:
        """A connection of this pool broke, so the others are not to be trusted: probe at once, then a new pool."""
        if self._throw_away(pool, broken=True):
            self._prober.doubt()

    def _throw_away(self, pool: Pool | None, *, broken: bool = False) -> bool:
        with self._lock:
            if pool is None or self._pool is not pool:
                return False
            self._pool = None
        pool.close(broken=broken)
        return True

    def _new_pool(self) -> Pool:
        wanted = gated(lambda: not pool.closed)

        direct = self._direct
        options = {**self._options, "prepare_threshold": self._prepare_threshold}

        def connect() -> Session:
            self._pace.reserve()  # waits for nobody, but whoever comes after it does while the server does not answer
            try:
                conn = wanted.connect(self._conninfo, **options)
            except OSError as error:  # no file descriptor
                raise psycopg.OperationalError(str(error)) from error
            try:
                with self._limits.on(conn, CONNECT_TIMEOUT):
                    conn.set_up(self._usual if direct else None)
            except BaseException:
                conn.close()
                raise
            self._pace.give_back()
            return conn

        def failed(error: psycopg.Error) -> None:
            # What the pool has may be good: a crowded server is there, else the probe shall tell.
            if crowded(error) and not pool.empty:
                self._pace.give_back()
                pool.make_do()
            else:
                self._prober.doubt()

        pool = Pool(
            connect,
            room=self._room,
            clock=self.clock,
            failed=failed,
            found_dead=lambda conn: self._found_dead(pool, conn),
            kept=self._kept,
        )
        return pool

    def _interrupt(self, limit: Limit) -> None:
        """Somebody wants a block to end."""
        # First: the request to cancel, or the server's answer to it, may get lost as well.
        self._limits.shorten(limit, 2 * CANCEL_TIMEOUT)
        self._cancel(limit)

    def _cancel(self, limit: Limit) -> None:
        # A request is a connection attempt, too. One at a time: while they are answered none has to wait for its turn.
        deadline = self.clock.monotonic() + CANCEL_PATIENCE
        if not self._cancelling.acquire(timeout=CANCEL_PATIENCE):
            return
        try:
            turn = None
            if self.outage is None:
                turn = self._pace.reserve_within(deadline - self.clock.monotonic())
            if turn is None or self._prober.closed_within(turn) or self.outage is not None:
                return  # the limit will break the connection
            self._pace.begin()
            limit.interrupt(min(CANCEL_TIMEOUT, max(limit.deadline - self.clock.monotonic(), CANCEL_LEAST)))
            self._pace.give_back()
        except (psycopg.Error, OSError) as error:
            logger.debug("cancelling a statement failed: %s", type(error).__name__)
        finally:
            self._cancelling.release()

    def _close_connections(self) -> None:
        self._throw_away(self._pool)
        self._limits.close()

    def _probe(self) -> DatabaseError | None:
        error = self._look()
        # Somebody ended that very connection: the server is there, unless the next one says otherwise.
        return self._look() if error is not None and error.once_more else error

    def _look(self) -> DatabaseError | None:
        try:
            refuse_unreadable(self._conninfo)
            with (
                self._gated.connect(self._conninfo, **self._options) as conn,
                self._limits.on(conn, CONNECT_TIMEOUT),
            ):
                conn.limit_by(server_limits(CONNECT_TIMEOUT))
                read_only, pid = conn.execute(_PROBE).fetchone() or (None, None)
                # A pooler makes the pid up. Prepared statements are session state, which it may not keep.
                self._direct = pid == conn.info.backend_pid
                self._prepare_threshold = PREPARE_AFTER if self._direct and self._may_prepare else None
                self._end_backends(conn)
                # Read-only after a failover: it answers, but is not the one to work with.
                if read_only == "on":
                    return DatabaseError("the server is read-only (a standby)", sqlstate="25006", connection_lost=True)
        except SetupError as error:
            return of_no_use(error)
        except Exception as raised:
            told = translate(raised, self.redact)
            connected = not isinstance(raised, psycopg.Error) or raised.pgconn is None
            told.once_more = connected and told.sqlstate in SHUTDOWN_STATES
            return told
        return None

    def _end_backends(self, conn: Session) -> None:
        """Have the server end the backends of connections that were given up, and see which have ended."""
        for pause in END_PAUSES:
            left = self._room.left_behind
            if not left or self._prober.closed_within(pause):
                return
            try:
                pids, began = [b.pid for b in left], [b.began for b in left]
                rows: list[Any] = conn.execute(_END_BACKENDS, (pids, began)).fetchall()
            except psycopg.Error as error:
                logger.debug("ending backends of ours failed: %s", type(error).__name__)
                return
            self._room.ended(set(left) - {Backend(row[0], row[1]) for row in rows})
