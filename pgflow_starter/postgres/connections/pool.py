"""`Pool`: psycopg_pool's `ConnectionPool`, which connects when we let it.

It keeps the connections, serves callers in turn, has them replaced when they are old and fewer when they are not
needed, and connects on a thread of its own, one after the other. When to connect to a server that may be away is not
for a pool to say: each attempt of its comes by `_make`, which refuses it at once while the probe has not answered,
where nobody waits, and where the budget is spent. So nothing takes the place of a connection that broke by itself.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

from psycopg.pq import TransactionStatus
from psycopg_pool import ConnectionPool, PoolClosed, PoolTimeout

from pgflow_starter.clock import Clock
from pgflow_starter.errors import DatabaseError
from pgflow_starter.postgres.connections.backend_budget import BackendBudget
from pgflow_starter.postgres.connections.connection import Session
from pgflow_starter.postgres.connections.line import Line

NAME = "pgflow-pool"
"""What its threads' names and its log lines begin with."""

MAX_IDLE = 600.0
"""Seconds after which one that was not needed is closed."""

MAX_LIFETIME = 3600.0
"""Seconds after which a connection is closed when it is put back: servers behind a name come and go."""

CROWDED_FOR = 30.0
"""Seconds for which the pool stays as small as a crowded server had it."""

LEAST_WAIT = 0.001
"""Seconds that are waited at least: psycopg_pool refuses a caller with no time to wait even a free one."""

MOST_WAIT = 86_400.0
"""Seconds that are waited at most: there is no time that is infinitely far away for it."""


class Counts(NamedTuple):
    """Of one pool: connections, those of them that are in use, and callers who wait for one."""

    made: int = 0
    lent: int = 0
    waiting: int = 0


class NotNowError(Exception):
    """There is to be no connection now."""


class Pool:
    """At most as many connections as its `budget`, which it may share, allows. Thread-safe; callers are served in turn.

    `failed(error)` is called, on the pool's thread, when `connect` raises. Until `grow_again` the pool does not connect
    any more. `found_dead(conn)` is told of an idle connection that had ended, before its place is anybody else's.
    Raises RuntimeError where there are no two threads to be had.
    """

    def __init__(
        self,
        connect: Callable[[], Session],
        *,
        budget: BackendBudget,
        clock: Clock,
        failed: Callable[[BaseException], object],
        found_dead: Callable[[Session], object] = lambda _: None,
    ) -> None:
        self._connect = connect
        self._budget = budget
        self._clock = clock
        self._failed = failed
        self._found_dead = found_dead
        self._lock = threading.RLock()  # never held while psycopg_pool, which calls us, takes its own
        self._made: set[Session] = set()
        self._lent: dict[Session, bool] = {}  # and whether to a caller of the line
        self._asking: set[object] = set()  # the callers that are with psycopg_pool
        self._held_back = self._broken = False
        self._crowded_size = budget.size
        self._crowded_until = 0.0
        self._line = Line(self._admits, clock)  # of the callers that are not urgent
        logging.getLogger("psycopg.pool").addFilter(_of_other_pools)  # the same one each time
        self._pool = _Pool(
            connection_class=_made_by(self._make),
            min_size=0,
            max_size=budget.size,
            open=True,
            name=NAME,
            max_lifetime=MAX_LIFETIME,
            max_idle=MAX_IDLE,
            reconnect_timeout=0.0,
            reconnect_failed=lambda _: self._grow(),  # somebody may have come to wait meanwhile
            num_workers=1,
        )

    @property
    def closed(self) -> bool:
        """Whether it takes nobody any more."""
        return self._pool.closed

    def counts(self) -> Counts:
        """Never waits."""
        return Counts(len(self._made), len(self._lent), self._line.waiting + self._requests())

    @property
    def empty(self) -> bool:
        """Whether there is no connection at all, in use or not."""
        return not self._made

    def get(self, timeout: float, *, urgent: bool = False) -> Session | None:
        """A connection, to be put back; None when the pool is closed. Raises DatabaseError after `timeout` seconds.

        Who is `urgent` waits behind one other at most.
        """
        deadline = self._clock.monotonic() + timeout
        in_line = bool(self._budget.reserved_for_urgent) and not urgent
        caller = object()
        while True:
            if in_line and not self._line.enter(deadline):
                raise _none_came_free(timeout)
            conn = None
            self._asking.add(caller)
            try:
                conn = self._pool.getconn(min(max(deadline - self._clock.monotonic(), LEAST_WAIT), MOST_WAIT))
            except PoolClosed:
                return None
            except PoolTimeout:
                raise _none_came_free(timeout) from None
            finally:
                self._asking.discard(caller)
                if in_line and conn is None:
                    self._line.leave()
            self._lent[conn] = in_line
            if self.closed:  # meanwhile, and perhaps because its connections are not to be trusted
                self.put(conn)
                return None
            if conn.alive():
                return conn
            conn.close()
            try:
                self._found_dead(conn)
            finally:
                self.put(conn)

    def put(self, conn: Session) -> None:
        """Back from `get`. One that is broken, in a transaction, too old or too many is closed."""
        with self._lock:
            idle = conn.pgconn.transaction_status == TransactionStatus.IDLE
            surplus = not idle or self.closed or len(self._made) > self._limit()
            if surplus:
                self._made.discard(conn)
        if surplus:
            conn.close()
        in_line = self._lent.pop(conn)  # after that, for it was not idle
        self._pool.putconn(conn)
        if in_line:
            self._line.leave()

    def make_room(self) -> bool:
        """The server has none to spare for somebody who needs one more: have one less from now on, once it is free.

        False where there is only one.
        """
        with self._lock:
            if len(self._made) <= self._limit():  # else one is to be given up already
                self._stay_at(len(self._made) - 1)
            enough = len(self._made) > 1
        if enough and self._pool.get_stats()["pool_available"]:
            with suppress(PoolTimeout, PoolClosed):
                conn = self._pool.getconn(LEAST_WAIT)
                conn.close()
                self._pool.putconn(conn)
        return enough

    def make_do(self) -> None:
        """The server has no connection to spare for another of ours: stay as small as the pool is."""
        with self._lock:
            self._stay_at(len(self._made))
        self.grow_again()

    def grow_again(self) -> None:
        """The reason for which connecting had failed is gone."""
        self._held_back = False
        self.look_again()

    def look_again(self) -> None:
        """There may be a place where there was none."""
        self._line.look_again()
        self._grow()

    def close(self, *, broken: bool = False, within: float = 0.0) -> None:
        """Close the connections, those in use when they are put back; callers that wait get None. Idempotent.

        Waits up to `within` seconds for the pool's threads, one of which may be connecting. Where a connection was
        `broken`, the server may not come to know that the others are closed.
        """
        self._broken |= broken
        self._pool.close(timeout=within)
        self._line.look_again()
        for conn in [conn for conn in list(self._made) if conn not in self._lent]:
            conn.close()  # handed to a caller whose time was up: it was about to come back to an open pool

    def _make(self) -> Session:
        """On the pool's thread. Raises NotNowError."""
        if not self._may_grow() or not self._budget.take():
            raise NotNowError
        try:
            conn = self._connect()
        except BaseException as error:
            self._held_back = True
            self._budget.give_back()
            if not self.closed:
                self._failed(error)
            raise NotNowError from error  # psycopg_pool's thread would not survive a SystemExit
        self._held_back = False
        self._made.add(conn)
        conn.let_go = self._gone
        self._line.look_again()
        return conn

    def _gone(self, conn: Session) -> None:
        """It was closed. On any thread, perhaps under psycopg_pool's lock."""
        self._made.discard(conn)
        if self._broken and conn not in self._lent:
            self._budget.leave_behind(conn.backend)
        self._budget.give_back()

    def _grow(self) -> None:
        if self._may_grow():
            self._pool.check()  # has it make one, if it does not already

    def _may_grow(self) -> bool:
        wanted = not self.closed and not self._held_back and self._requests() > 0
        return wanted and len(self._made) < self._limit() and not self._budget.full

    def _requests(self) -> int:
        # It counts callers that have given up, until one is put back; and of ours some have just been served.
        return min(len(self._asking), self._pool.get_stats()["requests_waiting"])

    def _admits(self, inside: int) -> bool:
        """Whether one more who is not urgent may take a connection, or be the one that waits for the next."""
        others = self._budget.occupied - len(self._made)  # those of other pools, left behind, or being made
        free = inside <= len(self._made) and inside + others < self._limit() - self._budget.reserved_for_urgent
        return free or not inside or self.closed

    def _limit(self) -> int:
        return self._budget.size if self._clock.monotonic() >= self._crowded_until else self._crowded_size

    def _stay_at(self, size: int) -> None:
        self._crowded_size = max(1, min(size, self._budget.size))
        self._crowded_until = self._clock.monotonic() + CROWDED_FOR


class _Pool(ConnectionPool[Session]):
    def __init__(self, **how: Any) -> None:
        self._process = os.getpid()
        super().__init__(**how)

    def __del__(self) -> None:
        if self._process == os.getpid():  # else its locks may be held by threads of the parent
            super().__del__()

    def _get_ready_connection(self, timeout: float | None) -> Session | None:
        # Under its lock, unlike the look before: a caller that came to wait after `close` would not be woken.
        self._check_open_getconn()
        self._pool.rotate()  # the one that was used last: the fewer are in use, the warmer the server's caches are
        return super()._get_ready_connection(timeout)

    @staticmethod
    def check_connection(conn: Session) -> None:
        """Nothing: whether it is alive is seen without asking the server, when it is given away."""


def _made_by(make: Callable[[], Session]) -> type[Session]:
    class Made(Session):
        @classmethod
        def connect(cls, conninfo: str = "", **_: Any) -> Session:  # type: ignore[override] # no more is needed
            return make()

    return Made


def _none_came_free(timeout: float) -> DatabaseError:
    return DatabaseError(f"no connection came free within {timeout:g} s", error_type="PoolTimeout")


def _of_other_pools(record: logging.LogRecord) -> bool:
    """Whether psycopg_pool has something to say of a pool that is none of ours. Ours say what there is to say."""
    text = record.getMessage()
    return NAME not in text and Session.__module__ not in text
