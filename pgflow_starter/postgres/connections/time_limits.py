"""`TimeLimits`: an end to waiting for a server that does not answer in time.

Who gives up first, of one call on a connection that may take `seconds`:

    2/3   the server itself, by the limits that were set there (see `server_limits`): nothing was done
    5/6   a request to cancel, for what those do not reach, a commit that waits for a standby say: whatever is answered
          then is how it came out
    1     the connection is broken, and nobody knows how it came out

The last is for a server that will never answer. TCP finds a peer that is gone, but not one behind something that still
acknowledges: a proxy or load balancer that lost its way to the server, a server whose machine is stuck. So the socket
is shut down, from another thread: the wait comes back as that of a connection that broke.
"""

from __future__ import annotations

import math
import os
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from errno import EMFILE, ENFILE
from typing import Any

import psycopg

from pgflow_starter.clock import Clock
from pgflow_starter.threads.own_thread import CLOSE_TIMEOUT, OwnThread

Connection = psycopg.Connection[Any]

CANCEL_SHARE = 5 / 6
"""Of a limit: after so much of it the server is asked to cancel."""

AGAIN_INTERVAL = 1.0
"""Seconds until breaking a connection is tried again, for which there was no file descriptor."""


class TimeLimit:
    """Until when (monotonic clock) one connection may be busy, and what came of it."""

    __slots__ = ("_conn", "_lock", "cancel_at", "conn", "deadline", "given_up")

    def __init__(self, conn: Connection, cancel_at: float, deadline: float) -> None:
        self.conn = conn
        self.cancel_at = cancel_at
        self.deadline = deadline
        self.given_up = False
        self._lock = threading.Lock()
        self._conn: Connection | None = conn

    def interrupt(self, timeout: float) -> None:
        """Have the server cancel the statement, within `timeout` seconds; nothing once the block is over.

        Raises psycopg.Error.
        """
        with self._lock:
            if self._conn is not None:
                self._conn.cancel_safe(timeout=timeout)

    def over(self) -> None:
        """The block is over. Waits for a request that is on its way: who has the connection next would meet it."""
        with self._lock:
            self._conn = None


class TimeLimits:
    """The limits of a pool's or a listener's connections; a thread, from the first on. Thread-safe.

    `cancel(limit)` asks the server to cancel, on a thread of its own, one at a time; without it nobody is asked.
    """

    longest = math.inf
    """Seconds that anything may take; inf unless `shorten_all` said so."""

    def __init__(self, thread_name: str, clock: Clock, cancel: Callable[[TimeLimit], object] | None = None) -> None:
        self._thread_name = thread_name
        self._clock = clock
        self._cancel = cancel
        # Entered by the lock itself, in one call of C: a signal's exception may come right after the Python code of
        # Condition.__enter__ has taken it.
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._busy: set[TimeLimit] = set()
        self._looks_at = math.inf
        self._thread = OwnThread(thread_name, self._run)
        self._to_cancel: deque[TimeLimit] = deque()
        self._canceller: threading.Thread | None = None
        self._closed = False

    @property
    def busy(self) -> int:
        """How many connections are used or made under a limit. Never waits."""
        return len(self._busy)

    @contextmanager
    def on(self, conn: Connection, seconds: float) -> Iterator[TimeLimit]:
        """Around whatever waits for the server: `seconds` (inf: none) for all of it. The block must not close `conn`.

        After that the statement raises psycopg.OperationalError and the connection is broken.
        """
        now = self._clock.monotonic()
        limit = TimeLimit(conn, math.inf, now + min(seconds, self.longest))
        if self._cancel is not None:
            limit.cancel_at = now + min(seconds, self.longest) * CANCEL_SHARE
        with self._lock:
            self._busy.add(limit)
            self._look_before(min(limit.cancel_at, limit.deadline))
        try:
            yield limit
        finally:
            with self._lock:
                self._busy.discard(limit)
            limit.over()

    def shorten(self, limit: TimeLimit, seconds: float) -> None:
        """`seconds` from now at most, for somebody has asked the server to cancel."""
        with self._lock:
            limit.deadline = min(limit.deadline, self._clock.monotonic() + seconds)
            self._look_before(limit.deadline)

    def shorten_all(self, seconds: float) -> None:
        """`seconds` at most for each, those to come included."""
        with self._lock:
            self.longest = min(self.longest, seconds)
            now = self._clock.monotonic()
            for limit in self._busy:
                limit.deadline = min(limit.deadline, now + seconds)
                if self._cancel is not None and limit.cancel_at < math.inf:
                    limit.cancel_at = min(limit.cancel_at, now + seconds * CANCEL_SHARE)
                self._look_before(min(limit.cancel_at, limit.deadline))

    def close(self) -> None:
        """Break all connections that are still busy, and end the threads; takes a second or two. Idempotent."""
        with self._lock:
            self._closed = True
            self._to_cancel.clear()
            self._end_all_by(math.inf)
            self._changed.notify()
            canceller = self._canceller
        self._thread.close()
        if canceller is not None and canceller is not threading.current_thread():
            canceller.join(CLOSE_TIMEOUT)

    def _look_before(self, deadline: float) -> None:
        """Under the lock: the thread must look again by then."""
        if deadline == math.inf or self._closed:
            return
        with suppress(RuntimeError):  # no thread to be had: no limit for this one, and another try with the next
            self._thread.start()  # also where it has died
        if deadline < self._looks_at:
            self._looks_at = deadline
            self._changed.notify()

    def _run(self) -> None:
        with self._lock:
            while True:
                now = self._clock.monotonic()
                done = self._end_all_by(math.inf if self._closed else now)
                if self._closed and done:
                    return
                self._cancel_all_by(now)
                self._looks_at = min((min(x.cancel_at, x.deadline) for x in self._busy), default=math.inf)
                wait = self._looks_at - now
                self._changed.wait(None if wait > threading.TIMEOUT_MAX else wait)

    def _cancel_all_by(self, now: float) -> None:
        """Under the lock: have the server asked to cancel what has taken too long."""
        for limit in self._busy:
            if limit.cancel_at <= now and not self._closed:
                limit.cancel_at = math.inf
                self._to_cancel.append(limit)
        if self._to_cancel and (self._canceller is None or not self._canceller.is_alive()):
            thread = threading.Thread(target=self._cancel_each, name=f"{self._thread_name}-cancel", daemon=True)
            with suppress(RuntimeError):  # no thread to be had: the connection is broken in the end
                thread.start()
                self._canceller = thread

    def _cancel_each(self) -> None:
        """On a thread that ends with the last of them."""
        assert self._cancel is not None
        while True:
            with self._lock:
                if not self._to_cancel:
                    self._canceller = None  # before anything else may be due
                    return
                limit = self._to_cancel.popleft()
            self._cancel(limit)

    def _end_all_by(self, deadline: float) -> bool:
        """Under the lock, for which a thread that is done with a connection waits before it closes it. Whether it went.

        Where it did not, another try is due in a second.
        """
        done = True
        for limit in list(self._busy):
            if limit.deadline <= deadline:
                broken = _shut_down(limit.conn)
                limit.given_up = broken
                limit.cancel_at = math.inf
                limit.deadline = math.inf if broken else self._clock.monotonic() + AGAIN_INTERVAL
                done = done and broken
        return done


def _shut_down(conn: Connection) -> bool:
    """Make the thread that waits on this connection see its end; False to try again. Does not block."""
    with suppress(psycopg.Error):  # it is closed
        number = conn.fileno()
        try:
            copy = socket.socket(fileno=os.dup(number))
        except OSError as error:
            return error.errno not in (EMFILE, ENFILE)
        # libpq closes the socket of a broken connection by itself, and the number may have become somebody else's.
        with copy, suppress(OSError):
            if conn.fileno() == number:
                copy.shutdown(socket.SHUT_RDWR)
    return True
