"""`Database`: a connection pool behind one shared probe.

    unknown ──probe answers──▶ up ──a connection breaks: probe──▶ up
       └──probe fails──▶ away ◀─────────probe fails────────────┘      away ──probe answers──▶ up

While the database is not known to be up nobody but the probe connects, at most twice a second however many wait; and
as soon as it answers, all who wait go on at once. psycopg_pool's own reconnecting is off: its backoff is what makes
late recoveries late. A pool of which a connection broke is thrown away whole; one that only cannot grow, the server
having no connection to spare, is kept.
"""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from math import inf

import psycopg
import psycopg_pool

from pgflow_starter.core.classify import classify
from pgflow_starter.core.state import ErrorClass, Outage, Phase
from pgflow_starter.errors import DatabaseError, ForkedError, SetupError
from pgflow_starter.ports import CancelScope, Clock, Died
from pgflow_starter.postgres.conninfo import CONNECT_TIMEOUT, Redactor, answer_limit, connect_options
from pgflow_starter.postgres.errors import translate
from pgflow_starter.postgres.gate import GatedConnection
from pgflow_starter.postgres.limits import Limit, Limits
from pgflow_starter.postgres.readable import refuse_unreadable

logger = logging.getLogger("pgflow_starter.database")

PROBE_INTERVAL = 0.5
"""Seconds between connection attempts while the database is away."""

CROWDED_INTERVAL = 1.0
"""The same while there are connections, and the server has none to spare."""

PROBE_PAUSE = 0.05
"""Seconds from a probe that was answered to the next, should connections keep breaking."""

CLOSE_TIMEOUT = 1.0
"""Seconds that a thread gets to end when a pool or the database is closed."""

CANCEL_TIMEOUT = 2.0
"""Seconds that a request to cancel a statement may take."""

HURRY_LIMIT = 3.0
"""Seconds that a statement may still take once the starter stops."""

Connection = psycopg.Connection[tuple[object, ...]]

# The server's words when it has no connection to spare; libpq hands over no SQLSTATE for a refused connection.
_CROWDED = re.compile(r"too many clients already|remaining connection slots are reserved|too many connections for")


class Database:
    """Pooled connections in autocommit mode. Thread-safe.

    `patience` is how long, in seconds, a caller waits for the probe's next answer and then for a free connection.
    """

    def __init__(self, conninfo: str, *, pool_size: int, clock: Clock, patience: float = 30.0) -> None:
        self.redact = Redactor(conninfo)
        self._conninfo = conninfo
        self._options = connect_options(conninfo)
        self._answer_limit = answer_limit(conninfo)
        self._limits = Limits("pgflow-database-limits", clock)
        self._pool_size = pool_size
        self._clock = clock
        self._patience = patience
        self._changed = threading.Condition()
        self._pool: psycopg_pool.ConnectionPool[Connection] | None = None
        self._stunted: psycopg_pool.ConnectionPool[Connection] | None = None
        self._quiet_until = 0.0
        self._doubters: list[Callable[[], object]] = []
        self._error: DatabaseError | None = None
        self._retired: list[psycopg_pool.ConnectionPool[Connection]] = []
        self._rounds = 0
        self._asked = 0
        self._suspect = True
        self._closed = False
        self._hurried = False
        self._outage: Outage | None = None
        self._watchers: list[Callable[[], object]] = []
        self._prober: threading.Thread | None = None
        self._died: Died | None = None
        self._owner: int | None = None

    @property
    def outage(self) -> Outage | None:
        """Since when the database is away, None while it is not known to be. Never waits."""
        return self._outage

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
        """Call `back` each time the database is reachable again."""
        self._watchers.append(back)

    def revive(self, died: Died | None = None) -> None:
        """Begin to probe, on a thread; returns at once. Idempotent. As `ports.Threaded.revive`."""
        self.check_process()
        with self._changed:
            self._died = died or self._died
            if self._prober is None and not self._closed:
                prober = threading.Thread(target=self._run, name="pgflow-database", daemon=True)
                prober.start()  # may raise: then there is none to wait for
                self._prober = prober

    def doubt(self, answered: Callable[[], object]) -> None:
        """Have the probe look at once; `answered` is called, on the probe's thread, when it knows."""
        self.revive()
        with self._changed:
            self._doubters.append(answered)
            self._suspect = True
            self._changed.notify_all()

    @contextmanager
    def connection(
        self, scope: CancelScope | None = None, *, patience: float | None = None, limited: bool = True
    ) -> Iterator[Connection]:
        """A connection for the duration of the block. Raises DatabaseError: also for what statements in it raise.

        Waits for the probe's next answer while the database is away, then for a free connection. Cancelling `scope`
        interrupts the statement that runs. Where `limited`, the block may take as long as a server may be silent (15 s,
        or the connection string's `tcp_user_timeout`), then the connection breaks.
        """
        limit = self._patience if patience is None else patience
        try:
            pool, conn = self._checkout(limit)
            try:
                with self._limits.on(conn, self._answer_limit if limited else inf) as busy:
                    interruptible: AbstractContextManager[None] = nullcontext()
                    if scope is not None:
                        interruptible = scope.interruptible(lambda: self._cancel(conn, busy))
                    with interruptible:
                        yield conn
            except psycopg.Error as error:
                if translate(error, self.redact).connection_lost:
                    self._broke(pool)
                raise
            finally:
                # Before the connection goes back: a pool that is still wanted would replace it.
                if conn.broken:
                    self._broke(pool)
                pool.putconn(conn)
        except (psycopg.Error, psycopg_pool.PoolClosed) as error:
            raise translate(error, self.redact) from error

    def hurry(self) -> None:
        """From now on nobody waits for a database that is away, nor long for one that does not answer."""
        with self._changed:
            self._hurried = True
            self._changed.notify_all()
        self._limits.shorten_all(HURRY_LIMIT)

    def close(self) -> None:
        """Close all connections; who waits for one gets a DatabaseError. Takes a second or two at most. Idempotent."""
        if self.foreign:
            return  # it would tell the server that the parent leaves
        with self._changed:
            self._closed = True
            self._retire()
            prober = self._prober
            self._changed.notify_all()
        self._limits.close()
        self._close_retired()
        if prober is not None and prober is not threading.current_thread():
            prober.join(CLOSE_TIMEOUT)

    def _checkout(self, patience: float) -> tuple[psycopg_pool.ConnectionPool[Connection], Connection]:
        while True:
            pool = self._admitted(patience)
            try:
                return pool, pool.getconn(timeout=patience)
            except psycopg_pool.PoolClosed:
                if self._closed:
                    raise  # else it was discarded while we waited: there is another, or a reason why not

    def _admitted(self, patience: float) -> psycopg_pool.ConnectionPool[Connection]:
        self.revive()
        with self._changed:
            if self._pool is None and not self._closed:
                self._asked += 1
                self._changed.notify_all()
                came = self._rounds
                self._changed.wait_for(
                    lambda: self._pool or self._closed or self._hurried or self._rounds > came, patience
                )
            if self._pool is not None:
                return self._pool
            if self._closed:
                msg = "the connections of this starter or client are closed"
                raise DatabaseError(msg, error_type="PoolClosed", connection_lost=True)
            if self._error is not None and self._outage is not None:
                error = self._error
                raise DatabaseError(
                    str(error), sqlstate=error.sqlstate, error_type=error.error_type, connection_lost=True
                )
            msg = "the starter stops" if self._hurried else f"the database has not answered within {patience:g} s"
            raise DatabaseError(msg, error_type="ConnectionTimeout", connection_lost=True)

    def _broke(self, pool: psycopg_pool.ConnectionPool[Connection]) -> None:
        """A connection of this pool broke, so the others are not to be trusted: probe at once, then a new pool."""
        with self._changed:
            if self._pool is pool:
                self._retire()
                self._suspect = True
                self._changed.notify_all()

    def _cannot_grow(self, pool: psycopg_pool.ConnectionPool[Connection]) -> None:
        """The pool could not connect. What it has may be good: the probe shall tell, after a decent pause."""
        with self._changed:
            if self._pool is pool:
                self._stunted = pool
                self._suspect = True
                self._quiet_until = self._clock.monotonic() + PROBE_INTERVAL
                self._changed.notify_all()

    def _cancel(self, conn: Connection, limit: Limit) -> None:
        # First: the request to cancel, or the server's answer to it, may get lost as well.
        self._limits.shorten(limit, 2 * CANCEL_TIMEOUT)
        try:
            conn.cancel_safe(timeout=CANCEL_TIMEOUT)
        except psycopg.Error as error:
            logger.debug("cancelling a statement failed: %s", type(error).__name__)

    def _retire(self) -> None:
        """Under the lock: let the pool be closed by the prober, which may wait for its threads."""
        if self._pool is not None:
            self._retired.append(self._pool)
            self._pool = None

    def _run(self) -> None:
        try:
            self._probe_loop()
        except BaseException as error:
            with self._changed:
                self._prober = None
                self._suspect = True
            if self._died is None:
                raise
            self._died(error)

    def _probe_loop(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._suspect or self._closed)
                pause = self._quiet_until - self._clock.monotonic()
                if pause > 0:
                    self._changed.wait_for(lambda: self._closed, pause)
                if self._closed:
                    return
                self._suspect = False
                asked, doubters, self._doubters = self._asked, self._doubters, []
            error = self._probe() or self._up()
            if error is not None:
                self._away(error)
            for answered in doubters:
                answered()
            self._close_retired()
            with self._changed:
                if self._changed.wait_for(lambda: self._closed, PROBE_PAUSE if error is None else PROBE_INTERVAL):
                    return
                # A wrong password stays wrong: asked again only when somebody wants a connection.
                if error is not None and classify(error, Phase.WORKER) is ErrorClass.PERMANENT:
                    self._changed.wait_for(lambda: self._closed or self._asked > asked)  # noqa: B023 - read at once

    def _close_retired(self) -> None:
        while True:
            with self._changed:
                if not self._retired:
                    return
                pool = self._retired.pop()
            pool.close(timeout=CLOSE_TIMEOUT)

    def _probe(self) -> DatabaseError | None:
        try:
            refuse_unreadable(self._conninfo)
            with (
                psycopg.connect(self._conninfo, **self._options) as conn,
                self._limits.on(conn, CONNECT_TIMEOUT),
            ):
                # Read-only after a failover: it answers, but is not the one to work with.
                if conn.execute("show transaction_read_only").fetchone() == ("on",):
                    return DatabaseError("the server is read-only (a standby)", sqlstate="25006", connection_lost=True)
        except SetupError as error:
            # libpq's own words would show the piece that it stumbled over, and that may be the password's.
            return DatabaseError(f"connection string: {error}", error_type="ProgrammingError", connection_lost=True)
        except Exception as error:
            return translate(error, self.redact)
        return None

    def _up(self) -> DatabaseError | None:
        """It answers: a pool, unless there is a good one. An error when there are no threads for one."""
        with self._changed:
            if self._pool is not None and self._pool is self._stunted:
                self._retire()  # who waits for it to grow would wait for ever
            if self._pool is None and not self._closed:
                try:
                    self._pool = self._new_pool()
                except RuntimeError as error:
                    return DatabaseError(str(error), error_type=type(error).__name__, connection_lost=True)
            was_away, self._outage, self._error = self._outage, None, None
            self._rounds += 1
            self._changed.notify_all()
        if was_away is not None:
            logger.warning("the database is back")
            for back in self._watchers:
                try:
                    back()
                except Exception:
                    logger.exception("telling that the database is back raised")
        return None

    def _away(self, error: DatabaseError) -> None:
        with self._changed:
            if self._pool is not None and _CROWDED.search(str(error)) and self._pool.get_stats()["pool_size"]:
                self._suspect = True  # smaller than it might be, but no outage
                self._quiet_until = self._clock.monotonic() + CROWDED_INTERVAL
                return
            first = self._outage is None
            since = self._clock.now() if self._outage is None else self._outage.since
            self._outage = Outage(since, str(error))
            self._error = error
            self._suspect = True
            self._retire()
            self._rounds += 1
            self._changed.notify_all()
        if first:
            logger.warning("the database is away: %s", error)

    def _new_pool(self) -> psycopg_pool.ConnectionPool[Connection]:
        # Returning a broken connection has the pool connect anew: not when it is retired, or has just failed to.
        def wanted() -> bool:
            return self._pool is pool and self._stunted is not pool

        pool: psycopg_pool.ConnectionPool[Connection] = psycopg_pool.ConnectionPool(
            self._conninfo,
            connection_class=GatedConnection,
            kwargs={**self._options, "wanted": wanted},
            min_size=0,
            max_size=self._pool_size,
            open=False,
            name="pgflow-pool",
            num_workers=2,
            reconnect_timeout=0,
            reconnect_failed=self._cannot_grow,
        )
        pool.open()
        return pool
