"""`Limits`: an end to waiting for a server that will never answer.

TCP finds a peer that is gone, but not one behind something that still acknowledges: a proxy or load balancer that lost
its way to the server, a server whose machine is stuck. So whatever takes too long has its socket shut down, from
another thread: the wait comes back as that of a connection that broke.
"""

from __future__ import annotations

import math
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from errno import EMFILE, ENFILE
from typing import Any

import psycopg

from pgflow_starter.ports import Clock

Connection = psycopg.Connection[Any]

CLOSE_TIMEOUT = 1.0
"""Seconds that the thread gets to end."""

AGAIN_INTERVAL = 1.0
"""Seconds until breaking a connection is tried again, for which there was no file descriptor."""


class Limit:
    """Until when (monotonic clock) one connection may be busy, and whether it was given up."""

    __slots__ = ("conn", "deadline", "given_up")

    def __init__(self, conn: Connection, deadline: float) -> None:
        self.conn = conn
        self.deadline = deadline
        self.given_up = False


class Limits:
    """The limits of a pool's or a listener's connections; one thread, from the first on. Thread-safe."""

    def __init__(self, thread_name: str, clock: Clock) -> None:
        self._thread_name = thread_name
        self._clock = clock
        # Entered by the lock itself, in one call of C: a signal's exception may come right after the Python code of
        # Condition.__enter__ has taken it.
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._busy: set[Limit] = set()
        self._looks_at = math.inf
        self._longest = math.inf
        self._thread: threading.Thread | None = None
        self._closed = False

    @contextmanager
    def on(self, conn: Connection, seconds: float) -> Iterator[Limit]:
        """Around whatever waits for the server: `seconds` (inf: none) for all of it. The block must not close `conn`.

        After that the statement raises psycopg.OperationalError and the connection is broken.
        """
        limit = Limit(conn, self._clock.monotonic() + min(seconds, self._longest))
        with self._lock:
            self._busy.add(limit)
            self._look_before(limit.deadline)
        try:
            yield limit
        finally:
            with self._lock:
                self._busy.discard(limit)

    def shorten(self, limit: Limit, seconds: float) -> None:
        """`seconds` from now at most."""
        with self._lock:
            limit.deadline = min(limit.deadline, self._clock.monotonic() + seconds)
            self._look_before(limit.deadline)

    def shorten_all(self, seconds: float) -> None:
        """`seconds` at most for each, those to come included."""
        with self._lock:
            self._longest = min(self._longest, seconds)
            for limit in self._busy:
                limit.deadline = min(limit.deadline, self._clock.monotonic() + seconds)
                self._look_before(limit.deadline)

    def close(self) -> None:
        """Break all connections that are still busy, and end the thread; takes a second at most. Idempotent."""
        with self._lock:
            self._closed = True
            self._end_all_by(math.inf)
            self._changed.notify()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(CLOSE_TIMEOUT)

    def _look_before(self, deadline: float) -> None:
        """Under the lock: the thread must look again by then."""
        if deadline >= self._looks_at or self._closed:
            return
        if self._thread is None:
            thread = threading.Thread(target=self._run, name=self._thread_name, daemon=True)
            try:
                thread.start()
            except RuntimeError:
                return  # no thread to be had: no limit for this one, and another try with the next
            self._thread = thread
        self._looks_at = deadline
        self._changed.notify()

    def _run(self) -> None:
        with self._lock:
            while True:
                now = self._clock.monotonic()
                done = self._end_all_by(math.inf if self._closed else now)
                if self._closed and done:
                    return
                self._looks_at = min((limit.deadline for limit in self._busy), default=math.inf)
                wait = self._looks_at - now
                self._changed.wait(None if wait > threading.TIMEOUT_MAX else wait)

    def _end_all_by(self, deadline: float) -> bool:
        """Under the lock, for which who is done with a connection waits before it closes the socket. Whether it went.

        Where it did not, another try is due in a second.
        """
        done = True
        for limit in list(self._busy):
            if limit.deadline <= deadline:
                broken = _shut_down(limit.conn)
                limit.given_up = broken
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
