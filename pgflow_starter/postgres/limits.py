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
from typing import Any

import psycopg

from pgflow_starter.ports import Clock

Connection = psycopg.Connection[Any]


class Limit:
    """Until when (monotonic clock) one connection may be busy."""

    __slots__ = ("conn", "deadline")

    def __init__(self, conn: Connection, deadline: float) -> None:
        self.conn = conn
        self.deadline = deadline


class Limits:
    """The limits of a pool's or a listener's connections; one thread, from the first on. Thread-safe."""

    def __init__(self, thread_name: str, clock: Clock) -> None:
        self._thread_name = thread_name
        self._clock = clock
        self._changed = threading.Condition()
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
        with self._changed:
            self._busy.add(limit)
            self._look_before(limit.deadline)
        try:
            yield limit
        finally:
            with self._changed:
                self._busy.discard(limit)

    def shorten(self, limit: Limit, seconds: float) -> None:
        """`seconds` from now at most."""
        with self._changed:
            limit.deadline = min(limit.deadline, self._clock.monotonic() + seconds)
            self._look_before(limit.deadline)

    def shorten_all(self, seconds: float) -> None:
        """`seconds` at most for each, those to come included."""
        with self._changed:
            self._longest = min(self._longest, seconds)
            for limit in self._busy:
                limit.deadline = min(limit.deadline, self._clock.monotonic() + seconds)
                self._look_before(limit.deadline)

    def close(self) -> None:
        """Break all connections that are still busy, and end the thread. Idempotent."""
        with self._changed:
            self._closed = True
            for limit in self._busy:
                _shut_down(limit.conn)
            self._changed.notify()
            thread = self._thread
        if thread is not None:
            thread.join()

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
        with self._changed:
            while not self._closed:
                now = self._clock.monotonic()
                for limit in self._busy:
                    if limit.deadline <= now:
                        # Under the lock: who is done with a connection waits for it before closing the socket.
                        _shut_down(limit.conn)
                        limit.deadline = math.inf
                self._looks_at = min((limit.deadline for limit in self._busy), default=math.inf)
                wait = self._looks_at - now
                self._changed.wait(None if wait > threading.TIMEOUT_MAX else wait)


def _shut_down(conn: Connection) -> None:
    """Make the thread that waits on this connection see its end. Does not block."""
    with suppress(psycopg.Error, OSError):
        number = conn.fileno()
        copy = socket.socket(fileno=os.dup(number))
        try:
            # libpq closes the socket of a broken connection by itself, and the number may have become somebody else's.
            if conn.fileno() == number:
                copy.shutdown(socket.SHUT_RDWR)
        finally:
            copy.close()
