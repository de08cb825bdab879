"""`Listener`: the one LISTEN connection of a process, for all queues.

Its thread waits on the connection's socket and on a wake-up socket of its own, so that a LISTEN is not held up behind
a wait for notifications. Without a connection it tries again by itself, listens on every queue anew, and wakes them all
once: what was sent meanwhile was announced to nobody.
"""

from __future__ import annotations

import logging
import selectors
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue

import psycopg
from psycopg import sql

from pgflow_starter.errors import DatabaseError, SetupError
from pgflow_starter.ports import CancelScope, Reachability
from pgflow_starter.postgres.conninfo import Redactor, connect_options
from pgflow_starter.postgres.database import PROBE_INTERVAL, Connection
from pgflow_starter.postgres.errors import translate
from pgflow_starter.postgres.pgmq import channel
from pgflow_starter.postgres.readable import refuse_unreadable

logger = logging.getLogger("pgflow_starter.listener")

OUTAGE_INTERVAL = 5.0
"""Seconds between connection attempts while the shared probe says that the database is away."""


@dataclass(eq=False, slots=True)
class _Subscription:
    wake: Callable[[], object]
    channel: str
    in_force: bool = False
    waiting: list[SimpleQueue[DatabaseError | None]] = field(default_factory=list)


class Listener:
    """`ports.QueueListener`. The thread starts with the first `listen`. Thread-safe.

    `reachability`, where the listener's database is the one that it probes, spares it attempts that must fail.
    """

    def __init__(self, conninfo: str, reachability: Reachability | None = None) -> None:
        self._conninfo = conninfo
        self._options = connect_options(conninfo)
        self._redact = Redactor(conninfo)
        self._reachability = reachability
        if reachability is not None:
            reachability.watch(self._interrupt)
        self._lock = threading.Lock()
        self._queues: dict[str, _Subscription] = {}
        self._dropped: list[str] = []
        self._thread: threading.Thread | None = None
        self._closed = False
        self._served = False
        self._wake_receive, self._wake_send = socket.socketpair()
        self._wake_receive.setblocking(False)
        self._wake_send.setblocking(False)

    def listen(self, queue: str, wake: Callable[[], object], timeout: float, scope: CancelScope) -> None:
        """Call `wake` on the listener's thread for each notification of the queue; returns once LISTEN is in force.

        Idempotent: the newest `wake` counts. Raises DatabaseError after `timeout` seconds or when connecting fails.
        """
        answer: SimpleQueue[DatabaseError | None] = SimpleQueue()
        with self._lock:
            if self._closed:
                msg = "the listener is closed"
                raise DatabaseError(msg, error_type="ListenerClosed", connection_lost=True)
            subscription = self._queues.get(queue)
            if subscription is None:
                subscription = self._queues[queue] = _Subscription(wake, channel(queue))
            subscription.wake = wake
            if subscription.in_force:
                return
            subscription.waiting.append(answer)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="pgflow-listener", daemon=True)
                self._thread.start()
        self._interrupt()
        late = DatabaseError(f"LISTEN was not in force within {timeout:g} s", error_type="ListenTimeout")
        with scope.interruptible(lambda: answer.put(late)):
            try:
                error = answer.get(timeout=timeout)
            except Empty:
                error = late
        if error is not None:
            raise error

    def unlisten(self, queue: str) -> None:
        """Stop calling; does not wait."""
        with self._lock:
            subscription = self._queues.pop(queue, None)
            if subscription is not None:
                self._dropped.append(subscription.channel)
        self._interrupt()

    def close(self, timeout: float = 1.0) -> None:
        """End the thread and its connection; waits up to `timeout` seconds. Idempotent."""
        with self._lock:
            self._closed = True
            thread = self._thread
        self._interrupt()
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)
        if thread is None or not thread.is_alive():
            self._wake_receive.close()
            self._wake_send.close()

    def _interrupt(self) -> None:
        with suppress(OSError):  # full: it will wake anyway; closed: nobody is there to wake
            self._wake_send.send(b".")

    def _run(self) -> None:
        lost = False
        while not self._closed:
            self._served = False
            try:
                refuse_unreadable(self._conninfo)
                with psycopg.connect(self._conninfo, **self._options) as conn:
                    self._listen_anew(conn, lost)
                    lost = False
                    self._serve(conn)
            except (psycopg.Error, OSError, SetupError) as error:
                told = translate(error, self._redact)
                lost = self._lost(told, lost)
                # One that had been of use is replaced at once, one that never was is no reason to hurry.
                if not self._served:
                    self._sleep()

    def _lost(self, error: DatabaseError, lost_before: bool) -> bool:
        """Say that there is no connection; True when there had been one."""
        with self._lock:
            had = any(s.in_force for s in self._queues.values())
            waiting = [w for s in self._queues.values() for w in s.waiting]
            for subscription in self._queues.values():
                subscription.in_force = False
                subscription.waiting.clear()
        for answer in waiting:
            answer.put(error)
        if had:
            logger.warning("the LISTEN connection was lost: %s", error)
        return had or lost_before

    def _listen_anew(self, conn: Connection, lost: bool) -> None:
        wakes = self._listen(conn)
        if lost:
            logger.warning("the LISTEN connection is back")
            for wake in wakes:
                _call(wake)

    def _listen(self, conn: Connection) -> list[Callable[[], object]]:
        """LISTEN on all queues that are not listened to yet, in one query; the wakes of those."""
        with self._lock:
            fresh = [s for s in self._queues.values() if not s.in_force]
            dropped = [c for c in self._dropped if all(s.channel != c for s in self._queues.values())]
            self._dropped.clear()
        statements = [sql.SQL("listen {}").format(sql.Identifier(s.channel)) for s in fresh]
        statements += [sql.SQL("unlisten {}").format(sql.Identifier(c)) for c in dropped]
        if statements:
            conn.execute(sql.SQL("; ").join(statements))
        with self._lock:
            answers = [w for s in fresh for w in s.waiting]
            for subscription in fresh:
                subscription.in_force = True
                subscription.waiting.clear()
        for answer in answers:
            answer.put(None)
        return [s.wake for s in fresh]

    def _serve(self, conn: Connection) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(conn.fileno(), selectors.EVENT_READ)
            selector.register(self._wake_receive, selectors.EVENT_READ)
            while not self._closed:
                # Taken before each wait: executing LISTEN may have read notifications off the socket.
                for notify in conn.notifies(timeout=0):
                    self._notified(notify.channel)
                selector.select()
                self._drain_wakeups()
                self._listen(conn)
                self._served = True

    def _notified(self, name: str) -> None:
        with self._lock:
            wake = next((s.wake for s in self._queues.values() if s.channel == name), None)
        if wake is not None:
            _call(wake)

    def _drain_wakeups(self) -> None:
        with suppress(BlockingIOError):
            while self._wake_receive.recv(4096):
                pass

    def _sleep(self) -> None:
        """Wait before the next connection attempt: while the database is away, until its probe says that it is back."""
        away = self._reachability is not None and self._reachability.outage is not None
        seconds = OUTAGE_INTERVAL if away else PROBE_INTERVAL
        with selectors.DefaultSelector() as selector:
            selector.register(self._wake_receive, selectors.EVENT_READ)
            if self._closed:
                return
            if selector.select(seconds):
                self._drain_wakeups()


def _call(wake: Callable[[], object]) -> None:
    try:
        wake()
    except Exception:
        logger.exception("waking a worker raised")
