"""`Pool`: connections that are kept for the next who needs one.

It connects on the thread of whoever needs a connection, one at a time, and never by itself: not in the place of one
that broke, nor again after an attempt that failed. When to connect to a server that may be away is not for a pool to
say, and it has no threads that would. Where the server has no connection to spare the pool makes do with those it has,
or with one less, and tries to have more after a while.

One connection of several is kept for urgent calls, which must not wait behind the others.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

import psycopg
from psycopg.pq import TransactionStatus

from pgflow_starter.clock import Clock
from pgflow_starter.errors import DatabaseError
from pgflow_starter.postgres.connections.connection import Session
from pgflow_starter.postgres.connections.room import Room

MAX_IDLE = 600.0
"""Seconds after which a connection that was not needed is closed, as soon as another one is put back."""

MAX_LIFETIME = 3600.0
"""Seconds after which a connection is closed when it is put back: servers behind a name come and go."""

CROWDED_FOR = 30.0
"""Seconds for which the pool stays as small as a crowded server had it."""


class Pool:
    """At most as many connections as its `room`, which it may share, holds. Thread-safe; who waits is served in turn.

    `failed(error)` is called, on the thread that needed it, when `connect` raises psycopg.Error. Until `grow_again` the
    pool does not connect any more. `found_dead(conn)` is told of an idle connection that had ended; none of the pool is
    given away then until it returned. `kept` connections are for urgent calls only, where there are more.
    """

    def __init__(
        self,
        connect: Callable[[], Session],
        *,
        room: Room,
        clock: Clock,
        failed: Callable[[psycopg.Error], object],
        found_dead: Callable[[Session], object] = lambda _: None,
        kept: int = 0,
    ) -> None:
        self._connect = connect
        self._room = room
        self._found_dead = found_dead
        self._kept = kept
        self._urgent: set[Session] = set()
        self._clock = clock
        self._failed = failed
        # Reentrant: the garbage collector may have a dropped client close its pool on a thread that is in here.
        self._lock = threading.RLock()
        self._line: deque[threading.Condition] = deque()
        self._idle: deque[tuple[Session, float]] = deque()
        self._born: dict[Session, float] = {}
        self._growing = False
        self._stunted = False
        self._crowded_size = room.size
        self._crowded_until = 0.0
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether it takes nobody any more."""
        return self._closed

    @property
    def empty(self) -> bool:
        """Whether there is no connection at all, in use or not."""
        return not self._born

    def get(self, timeout: float, *, urgent: bool = False) -> Session | None:
        """A connection, to be put back; None when the pool is closed. Raises DatabaseError after `timeout` seconds.

        An attempt to connect that has begun is not cut short by the timeout. Who is `urgent` comes first.
        """
        deadline = self._clock.monotonic() + timeout
        while not self._closed:
            conn, to_be_made = self._ready(deadline, timeout, urgent)
            if to_be_made:
                conn = self._grown(urgent)
            if conn is None:
                continue
            if self._closed:
                self.put(conn)
            elif conn.alive():
                return conn
            else:
                with self._lock:
                    self._drop([conn])
                self._close([conn])
                self._found_dead(conn)
        return None

    def put(self, conn: Session) -> None:
        """Back from `get`. One that is broken, in a transaction, too old or too many is closed."""
        with self._lock:
            self._urgent.discard(conn)
            now = self._clock.monotonic()
            usable = conn.pgconn.transaction_status == TransactionStatus.IDLE
            young = now - self._born[conn] < MAX_LIFETIME
            surplus = [] if usable and young and not self._closed and len(self._born) <= self._limit(now) else [conn]
            if not surplus:
                self._idle.append((conn, now))
                if now - self._idle[0][1] > MAX_IDLE:
                    surplus.append(self._idle.popleft()[0])
            self._drop(surplus)
        self._close(surplus)

    def make_room(self) -> bool:
        """The server has none to spare for somebody who needs one more: have one less from now on, once it is free.

        False where there is only one.
        """
        with self._lock:
            if len(self._born) <= self._limit(self._clock.monotonic()):  # else one is to be given up already
                self._stay_at(len(self._born) - 1)
            enough = len(self._born) > 1
            surplus = [self._idle.popleft()[0]] if self._idle and enough else []
            self._drop(surplus)
        self._close(surplus)
        return enough

    def make_do(self) -> None:
        """The server has no connection to spare for another of ours: stay as small as the pool is."""
        with self._lock:
            self._stay_at(len(self._born))
            self.grow_again()

    def grow_again(self) -> None:
        """The reason for which connecting had failed is gone."""
        with self._lock:
            self._stunted = False
            self._wake()

    def look_again(self) -> None:
        """There may be room where there was none."""
        with self._lock:
            self._wake()

    def close(self, *, broken: bool = False) -> None:
        """Close the connections, those in use when they are put back; who waits gets None. Idempotent, never waits.

        Where one was `broken`, the server may not come to know that the others are closed.
        """
        with self._lock:
            self._closed = True
            surplus = [conn for conn, _ in self._idle]
            if broken:
                for conn in surplus:
                    self._room.leave_behind(conn.backend)
            self._idle.clear()
            self._drop(surplus)
            for waiting in self._line:
                waiting.notify()
        self._close(surplus)

    def _ready(self, deadline: float, timeout: float, urgent: bool) -> tuple[Session | None, bool]:
        """An idle connection when it is our turn, or whether we are to make one; neither when the pool is closed."""
        with self._lock:
            place: threading.Condition | None = None
            try:
                while not self._closed:
                    now = self._clock.monotonic()
                    if (not self._line or self._line[0] is place or urgent) and self._may_take(now, urgent):
                        if self._idle:
                            conn = self._idle.pop()[0]
                            if urgent:
                                self._urgent.add(conn)
                            return conn, False
                        if self._may_grow(now, urgent):
                            self._growing = True
                            return None, True
                    if now >= deadline:
                        msg = f"no connection came free within {timeout:g} s"
                        raise DatabaseError(msg, error_type="PoolTimeout")
                    if place is None:
                        place = threading.Condition(self._lock)
                        self._line.insert(0 if urgent else len(self._line), place)
                    place.wait(min(deadline - now, threading.TIMEOUT_MAX))
                return None, False
            finally:
                if place is not None:
                    self._line.remove(place)
                self._wake()

    def _grown(self, urgent: bool) -> Session | None:
        """A new connection; None when there was none to be had: then others may know why."""
        conn, error = None, None
        try:
            if not self._closed:
                conn = self._connect()
        except psycopg.Error as raised:
            error = raised
        finally:
            if conn is None:
                self._room.leave()
            with self._lock:
                self._growing = False
                if conn is not None:
                    self._born[conn] = self._clock.monotonic()
                    if urgent:
                        self._urgent.add(conn)
                self._stunted = error is not None
                self._wake()
        if error is not None and not self._closed:
            self._failed(error)
        return conn

    def _may_take(self, now: float, urgent: bool) -> bool:
        """Whether it leaves a connection for who is urgent, where there is more than one."""
        limit = self._limit(now)
        if urgent or not self._kept or limit <= self._kept:
            return True
        here = len(self._born) - len(self._idle) - len(self._urgent) + self._growing
        return not here or self._room.occupied - len(self._idle) - len(self._urgent) < limit - self._kept

    def _may_grow(self, now: float, urgent: bool) -> bool:
        limit = self._limit(now)
        if self._growing or self._stunted or len(self._born) >= limit:
            return False
        shared = urgent or limit <= self._kept
        return self._room.enter(leaving=0 if shared else max(0, self._kept - len(self._urgent)))

    def _limit(self, now: float) -> int:
        return self._room.size if now >= self._crowded_until else self._crowded_size

    def _stay_at(self, size: int) -> None:
        self._crowded_size = max(1, min(size, self._room.size))
        self._crowded_until = self._clock.monotonic() + CROWDED_FOR

    def _drop(self, surplus: list[Session]) -> None:
        """Under the lock: these are to be closed, outside of it; there may be room for others."""
        for conn in surplus:
            del self._born[conn]
            self._urgent.discard(conn)
        self._wake()

    def _wake(self) -> None:
        """Under the lock: let the first in line look again."""
        if self._line:
            self._line[0].notify()

    def _close(self, connections: list[Session]) -> None:
        """Outside the lock: closing may wait for who is giving it up."""
        for conn in connections:
            conn.close()
            self._room.leave()
