"""`Listener`: the one LISTEN connection of a process, for all queues.

Its thread waits on the connection's socket and on a wake-up socket of its own, so that a LISTEN is not held up behind
a wait for notifications. Without a connection it tries again by itself, listens on every queue anew, and wakes them all
once: what was sent meanwhile was announced to nobody.

A connection proves that it hears: a notification sent to it over another connection must arrive, at first and from
time to time. One that has silently died, or that goes through a transaction pooler, does not hear it.
"""

from __future__ import annotations

import logging
import selectors
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import Empty
from typing import Protocol
from uuid import uuid4

import psycopg
from psycopg import sql

from pgflow_starter.errors import DatabaseError, ListenUnsupportedError, PgflowError, SetupError
from pgflow_starter.ports import CancelScope, Clock, Died, Reachability
from pgflow_starter.postgres.conninfo import Redactor, answer_limit, connect_options
from pgflow_starter.postgres.database import Connection
from pgflow_starter.postgres.errors import translate
from pgflow_starter.postgres.limits import Limits
from pgflow_starter.postgres.proof import Proof
from pgflow_starter.postgres.readable import refuse_unreadable
from pgflow_starter.postgres.subscriptions import Answer, Subscriptions

logger = logging.getLogger("pgflow_starter.listener")

ATTEMPT_INTERVAL = 1.0
"""Seconds between connection attempts of the listener's own, should they keep failing while the probe's succeed."""

OUTAGE_INTERVAL = 5.0
"""Seconds after which the shared probe is asked again, should it not have answered."""


DEAF_LIMIT = 2.0
"""Seconds that a connection which does not hear has to say why."""

DEAF_TRIES = 2
"""Connections in a row through a pooler that must never have heard anything until the pooler is said to be why."""


class Probe(Reachability, Protocol):
    """The shared connection probe, which can be asked."""

    def doubt(self, answered: Callable[[], object]) -> None:
        """Have it look at once; `answered` is called, on another thread, when it knows."""


class Listener:
    """`ports.QueueListener`. The thread starts with the first `listen`. Thread-safe.

    `reachability`, where the listener's database is the one that it probes, spares it attempts that must fail. `notify`
    sends a notification to a channel over another connection, on another thread, and then calls back whether it did;
    without it nothing is proven. `reconnected(queues)` is told on the listener's thread after a loss, before the wakes.
    """

    def __init__(
        self,
        conninfo: str,
        clock: Clock,
        *,
        reachability: Probe | None = None,
        notify: Callable[[str, Callable[[bool], None]], None] | None = None,
        reconnected: Callable[[list[str]], None] | None = None,
    ) -> None:
        self._conninfo = conninfo
        self._clock = clock
        self._options = connect_options(conninfo)
        self._limits = Limits("pgflow-listener-limits", clock)
        self._answer_limit = answer_limit(conninfo)
        self._redact = Redactor(conninfo)
        self._reachability = reachability
        if reachability is not None:
            reachability.watch(self._database_back)
        self._notify = notify
        self._reconnected = reconnected
        self._queues = Subscriptions()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._died: Died | None = None
        self._closed = False
        self._back = False
        self._deaf_in_a_row = 0
        self._wake_receive, self._wake_send = socket.socketpair()
        self._wake_receive.setblocking(False)
        self._wake_send.setblocking(False)

    def revive(self, died: Died) -> None:
        """As `ports.Threaded.revive`; the queues are kept."""
        with self._lock:
            self._died = died
            if self._thread is None and self._queues.queues():
                self._start()

    def listen(self, queue: str, wake: Callable[[], object], timeout: float, scope: CancelScope) -> None:
        """Call `wake` on the listener's thread for each notification of the queue; returns once LISTEN is in force.

        Idempotent: the newest `wake` counts. Raises DatabaseError after `timeout` seconds or when connecting fails,
        ListenUnsupportedError when notifications do not arrive because a transaction pooler is in between.
        """
        answer: Answer = Answer()
        with self._lock:
            if self._closed:
                raise _is_closed()
            if not self._queues.want(queue, wake, answer):
                return
            if self._thread is None:
                self._start()
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
        self._queues.drop(queue)
        self._interrupt()

    def close(self, timeout: float = 1.0) -> None:
        """End the thread and its connection; waits up to `timeout` seconds. Idempotent."""
        with self._lock:
            self._closed = True
            thread = self._thread
        self._queues.lost(_is_closed())
        self._interrupt()
        self._limits.close()
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)
        if thread is None or not thread.is_alive():
            self._close_sockets()

    def _close_sockets(self) -> None:
        self._wake_receive.close()
        self._wake_send.close()

    def _database_back(self) -> None:
        self._back = True
        self._interrupt()

    def _interrupt(self) -> None:
        with suppress(OSError):  # full: it will wake anyway; closed: nobody is there to wake
            self._wake_send.send(b".")

    def _start(self) -> None:
        thread = threading.Thread(target=self._run, name="pgflow-listener", daemon=True)
        thread.start()  # may raise: then there is none to wait for
        self._thread = thread

    def _run(self) -> None:
        try:
            self._keep_listening()
        except BaseException as error:
            self._queues.lost(DatabaseError("the listener's thread died", error_type=type(error).__name__))
            with self._lock:
                self._thread = None
            if self._died is None:
                raise
            self._died(error)
        else:
            self._close_sockets()  # closed; `close` may not have waited so long

    def _keep_listening(self) -> None:
        lost = False
        while not self._closed:
            proof = Proof(f"pgflow_starter.{uuid4()}", self._clock, self._notify, self._interrupt)
            error: PgflowError
            try:
                refuse_unreadable(self._conninfo)
                with psycopg.connect(self._conninfo, **self._options) as conn:
                    try:
                        self._serve(conn, proof, lost)
                    finally:
                        lost = lost and not proof.heard
            except ListenUnsupportedError as unsupported:
                error = unsupported
            except (psycopg.Error, OSError, SetupError) as raised:
                error = translate(raised, self._redact)
            else:
                return
            if self._queues.lost(error):
                lost = True
                logger.warning("the LISTEN connection was lost: %s", error)
            # One that had been of use is replaced at once, one that never was is no reason to hurry.
            if not proof.heard:
                self._sleep(ATTEMPT_INTERVAL)
            self._await_database()

    def _serve(self, conn: Connection, proof: Proof, lost: bool) -> None:
        """Listen until the listener is closed. Raises when the connection breaks or does not hear."""
        with self._limits.on(conn, self._answer_limit):
            conn.execute(sql.SQL("listen {}").format(sql.Identifier(proof.channel)))
        proof.begin()
        self._back = False
        with selectors.DefaultSelector() as selector:
            selector.register(conn.fileno(), selectors.EVENT_READ)
            selector.register(self._wake_receive, selectors.EVENT_READ)
            told = False
            while not self._closed:
                if self._back:
                    # What took the database away may have taken this connection, too, without a word.
                    self._back = False
                    proof.hasten()
                if proof.overdue():
                    raise self._deaf(conn, proof)
                # Before each wait: executing LISTEN may have read notifications off the socket.
                self._take(conn, proof)
                if proof.heard:
                    self._listen(conn)
                    self._take(conn, proof)
                    if lost and not told:
                        told = True
                        self._tell_back()
                selector.select(proof.patience())
                self._drain_wakeups()

    def _take(self, conn: Connection, proof: Proof) -> None:
        for notify in conn.notifies(timeout=0):
            if notify.channel == proof.channel:
                proof.arrived()
            else:
                self._queues.wake(notify.channel)

    def _listen(self, conn: Connection) -> None:
        """LISTEN on all queues that are not listened to yet, in one query."""
        fresh, dropped = self._queues.changes()
        statements = [sql.SQL("listen {}").format(sql.Identifier(s.channel)) for s in fresh]
        statements += [sql.SQL("unlisten {}").format(sql.Identifier(c)) for c in dropped]
        if statements:
            with self._limits.on(conn, self._answer_limit):
                conn.execute(sql.SQL("; ").join(statements))
        self._queues.now_in_force(fresh)

    def _tell_back(self) -> None:
        logger.warning("the LISTEN connection is back")
        if self._reconnected is not None:
            self._reconnected(self._queues.queues())
        self._queues.wake_all()

    def _deaf(self, conn: Connection, proof: Proof) -> Exception:
        self._deaf_in_a_row = 0 if proof.heard else self._deaf_in_a_row + 1
        with self._limits.on(conn, DEAF_LIMIT):
            row = conn.execute("select pg_backend_pid()").fetchone()
        # A session pooler shows another pid as well, but through that one they arrive, be it at the second try.
        if row is not None and row[0] != conn.info.backend_pid and self._deaf_in_a_row >= DEAF_TRIES:
            return ListenUnsupportedError(
                "notifications do not arrive: LISTEN cannot work through a transaction pooler;"
                " let listen_conninfo point at the server itself, or use signal_strategy='polling'"
            )
        return psycopg.OperationalError("a notification sent to the LISTEN connection did not arrive")

    def _drain_wakeups(self) -> None:
        with suppress(BlockingIOError):
            while self._wake_receive.recv(4096):
                pass

    def _await_database(self) -> None:
        """Until the shared probe, which looks now, says that the database is there: attempts are its business alone."""
        if self._reachability is None:
            return
        answered = threading.Event()

        def answer() -> None:
            answered.set()
            self._interrupt()

        self._reachability.doubt(answer)
        while not self._closed and (self._reachability.outage is not None or not answered.is_set()):
            if not self._sleep(OUTAGE_INTERVAL) and not answered.is_set():
                self._reachability.doubt(answer)

    def _sleep(self, seconds: float) -> bool:
        """Wait that long, or until something changes: then True."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._wake_receive, selectors.EVENT_READ)
            woken = not self._closed and bool(selector.select(seconds))
        self._drain_wakeups()
        return woken


def _is_closed() -> DatabaseError:
    return DatabaseError("the listener is closed", error_type="ListenerClosed", connection_lost=True)
