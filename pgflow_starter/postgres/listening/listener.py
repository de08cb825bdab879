"""`Listener`: the one LISTEN connection of a process, for all queues.

Its thread waits on the connection's socket and on a wake-up socket of its own, so that a LISTEN is not held up behind
a wait for notifications. Without a connection it tries again by itself, listens on every queue anew, and wakes them all
once: what was sent meanwhile was not announced.

A connection proves that it hears: a notification sent to it over another connection must arrive, at first and from
time to time. One that has silently died, or that goes through a transaction pooler, does not hear it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Protocol
from uuid import uuid4

import psycopg
from psycopg import sql

from pgflow_starter.clock import Clock
from pgflow_starter.errors import DatabaseError, ListenUnsupportedError, PgflowError, SetupError
from pgflow_starter.ports import ListenObserver, Reachability
from pgflow_starter.postgres.connections.connection import Connection, Session, gated, server_limits
from pgflow_starter.postgres.connections.conninfo import (
    Redactor,
    answer_limit,
    connect_options,
    of_no_use,
    refuse_unreadable,
)
from pgflow_starter.postgres.connections.errors import crowded, translate
from pgflow_starter.postgres.connections.pace import Pace
from pgflow_starter.postgres.connections.time_limits import TimeLimits
from pgflow_starter.postgres.listening.proof import Proof
from pgflow_starter.postgres.listening.subscriptions import Answer, Subscriptions
from pgflow_starter.postgres.listening.wakeup import Wakeup
from pgflow_starter.threads.own_thread import Died, OwnThread

logger = logging.getLogger("pgflow_starter.listener")

ATTEMPT_INTERVAL = 1.0
"""Seconds between connection attempts of the listener's own, should they keep failing while the probe's succeed."""

CROWDED_PAUSE = 0.5
"""The same while the pool makes room on a server that has no connection to spare."""

OUTAGE_INTERVAL = 5.0
"""Seconds after which the shared probe is asked again, should it not have answered."""

DEAF_TRIES = 2
"""Connections in a row through a pooler that must never have heard anything until the pooler is said to be why."""


class Probe(Reachability, Protocol):
    """The shared connection probe, which can be asked."""

    def doubt(self, answered: Callable[[], object]) -> None:
        """Have it look at once; `answered` is called, on another thread, when it knows."""

    def make_room(self) -> bool:
        """Have the pool give a connection up, for the server has none to spare; False where it has none to give."""


class Listener:
    """`ports.QueueListener`. The thread starts with the first `listen`. Thread-safe.

    `reachability`, where the listener's database is the one that it probes, spares it attempts that must fail; without
    it the listener tries by itself, at the `pace` that it shares with the probe of the other database. `notify` sends a
    notification to a channel over another connection, on another thread, and then calls back whether it did; without it
    nothing is proven. `reconnected(queues)` is called on the listener's thread after a loss, before the wakes.
    """

    def __init__(
        self,
        conninfo: str,
        clock: Clock,
        *,
        reachability: Probe | None = None,
        pace: Pace | None = None,
        notify: Callable[[str, Callable[[bool], None]], None] | None = None,
        reconnected: Callable[[list[str]], None] | None = None,
        observer: ListenObserver | None = None,
    ) -> None:
        self._conninfo = conninfo
        self._clock = clock
        self._options = connect_options(conninfo)
        self._limits = TimeLimits("pgflow-listener-limits", clock)
        self._answer_limit = answer_limit(conninfo)
        self._redact = Redactor(conninfo)
        self._gated = gated(lambda: not self._closed)
        self._pace = pace or Pace(clock)
        self._reachability = reachability
        self._notify = notify
        self._reconnected = reconnected
        self._observer = observer
        self._queues = Subscriptions()
        self._lock = threading.Lock()
        hangs = "the LISTEN connection hangs, in resolving a host name perhaps"
        self._thread = OwnThread("pgflow-listener", self._run, hangs=hangs)
        self._closed = self._back = self._loss_logged = False
        self.missed = False
        """Whether LISTEN was out of force, and the queues were not woken since."""
        self._deaf_in_a_row = 0
        self._wakeup = Wakeup()
        if reachability is not None:
            reachability.watch(self._database_back)

    def revive(self, died: Died) -> None:
        """As `Threaded.revive`; the queues are kept."""
        with self._lock:
            self._thread.revive(died, needed=bool(self._queues.queues()))

    def listen(self, queue: str, wake: Callable[[], object], done: Answer) -> None:
        """Call `wake` on the listener's thread for each notification of the queue. Does not wait.

        `done` is called once, maybe on that thread: None once LISTEN is in force, else a DatabaseError when connecting
        fails or ListenUnsupportedError when notifications do not arrive because a transaction pooler is in between.
        Idempotent: the newest `wake` counts. Raises RuntimeError when there is no thread to be had.
        """
        with self._lock:
            closed = self._closed
            waits = not closed and self._queues.want(queue, wake, done)
        if waits:
            self._thread.start()
            self._wakeup.send()  # without the lock: the next caller would wait for what may make this one wait
        else:
            done(_is_closed() if closed else None)

    def queues(self) -> Sequence[str]:
        """Those that are to be listened to."""
        return self._queues.queues()

    def unlisten(self, queue: str) -> None:
        """Stop calling; does not wait."""
        self._queues.drop(queue)
        self._wakeup.send()

    def close(self) -> None:
        """End the thread and its connection; waits a second or two. Idempotent."""
        with self._lock:
            self._closed = True
        self._queues.lost(_is_closed())
        self._wakeup.send()
        self._limits.close()
        if self._thread.close():
            self._wakeup.close()

    def _database_back(self) -> None:
        self._back = True
        self._wakeup.send()

    def _run(self) -> None:
        try:
            self._keep_listening()
        except BaseException as error:
            self._lost(DatabaseError("the listener's thread died", error_type=type(error).__name__))
            raise
        self._wakeup.close()  # closed; `close` may not have waited so long

    def _keep_listening(self) -> None:
        while not self._closed:
            proof = Proof(f"pgflow_starter.{uuid4()}", self._clock, self._notify, self._wakeup.send)
            self._pause(self._pace.reserve())
            self._pace.begin()
            error: PgflowError
            try:
                refuse_unreadable(self._conninfo)
                with self._gated.connect(self._conninfo, **self._options) as conn:
                    self._pace.give_back()
                    self._serve(conn, proof)
            except ListenUnsupportedError as unsupported:
                error = unsupported
            except SetupError as unreadable:
                error = of_no_use(unreadable)
            except (psycopg.Error, OSError) as raised:
                error = translate(raised, self._redact)
            else:
                return
            was_listening = self._lost(error)
            was_away = self._reachability is not None and self._await_database(self._reachability, error, proof.heard)
            if was_listening and not was_away and not self._closed:  # an outage is logged by the probe, which found it
                self._loss_logged = True
                logger.warning("the LISTEN connection was lost: %s", error)

    def _serve(self, conn: Session, proof: Proof) -> None:
        """Listen until the listener is closed. Raises when the connection breaks or does not hear."""
        conn.add_notify_handler(lambda notify: self._heard(notify.channel, proof))  # those read by executing
        with self._limits.on(conn, self._answer_limit):
            conn.execute(sql.SQL("listen {}").format(sql.Identifier(proof.channel)))
            row = conn.execute("select pg_backend_pid()").fetchone()
        # A pooler makes the pid up.
        pooled = row is not None and row[0] != conn.info.backend_pid
        with self._limits.on(conn, self._answer_limit):
            conn.set_up(None if pooled else server_limits(self._answer_limit))
            if not pooled:
                conn.stay()
        proof.begin(pooled=pooled)
        self._back = False
        while not self._closed:
            if self._back:
                # What took the database away may have taken this connection, too, without a word.
                self._back = False
                proof.hasten()
            if proof.overdue():
                raise self._deaf(proof, pooled)
            self._take(conn, proof)
            if proof.heard:
                if self._listen(conn):
                    self._take(conn, proof)  # executing LISTEN may have read them off the socket
                if self.missed:
                    self.missed = False
                    self._announce_return()
            self._wakeup.wait(proof.patience(), conn.fileno())

    def _take(self, conn: Connection, proof: Proof) -> None:
        """The notifications that are there. Not by psycopg's `notifies`, which takes longer than the rest."""
        conn.pgconn.consume_input()
        while (notify := conn.pgconn.notifies()) is not None:
            self._heard(notify.relname.decode(errors="replace"), proof)

    def _heard(self, channel: str, proof: Proof) -> None:
        if channel == proof.channel:
            proof.arrived()
        else:
            self._queues.wake(channel)

    def _listen(self, conn: Connection) -> bool:
        """LISTEN on all queues that are not listened to yet, in one query; whether there was one."""
        if not self._queues.changed:
            return False
        fresh, dropped = self._queues.changes()
        statements = [sql.SQL("listen {}").format(sql.Identifier(s.channel)) for s in fresh]
        statements += [sql.SQL("unlisten {}").format(sql.Identifier(c)) for c in dropped]
        if statements:
            with self._limits.on(conn, self._answer_limit):
                conn.execute(sql.SQL("; ").join(statements))
        self._queues.now_in_force(fresh)
        return bool(statements)

    def _lost(self, error: PgflowError) -> bool:
        """The connection is gone; whether it was listening."""
        was_listening = self._queues.lost(error)
        self.missed = self.missed or was_listening
        if was_listening and self._observer is not None and not self._closed:
            self._observer.disconnected(error)
        return was_listening

    def _announce_return(self) -> None:
        if self._loss_logged:
            self._loss_logged = False
            logger.warning("the LISTEN connection is back")
        if self._observer is not None:
            self._observer.reconnected()
        if self._reconnected is not None:
            self._reconnected(self._queues.queues())
        self._queues.wake_all()

    def _deaf(self, proof: Proof, pooled: bool) -> Exception:
        self._deaf_in_a_row = 0 if proof.heard else self._deaf_in_a_row + 1
        # Through a session pooler they arrive, be it at the second try.
        if pooled and self._deaf_in_a_row >= DEAF_TRIES:
            return ListenUnsupportedError(
                "notifications do not arrive: LISTEN cannot work through a transaction pooler;"
                " let listen_conninfo point at the server itself, or use signal_strategy='polling'"
            )
        return psycopg.OperationalError("a notification sent to the LISTEN connection did not arrive")

    def _await_database(self, probe: Probe, error: PgflowError, heard: bool) -> bool:
        """Until the shared probe, which looks now, finds that connecting makes sense; whether the database was away."""
        if crowded(error) and probe.make_room():
            self._pause(CROWDED_PAUSE)
            return False
        was_away = False
        answered = threading.Event()

        def answer() -> None:
            answered.set()
            self._wakeup.send()

        probe.doubt(answer)
        while not self._closed and (probe.outage is not None or not answered.is_set()):
            was_away = was_away or probe.outage is not None
            if not self._wakeup.wait(OUTAGE_INTERVAL) and not answered.is_set():
                probe.doubt(answer)
        # A connection that had been of use is replaced at once, one that never was is no reason to hurry.
        if not heard and not was_away:
            self._pause(ATTEMPT_INTERVAL)
        return was_away

    def _pause(self, seconds: float) -> None:
        """Wait that long, wake-ups or not; or until the listener is closed."""
        until = self._clock.monotonic() + seconds
        while not self._closed and (left := until - self._clock.monotonic()) > 0:
            self._wakeup.wait(left)


def _is_closed() -> DatabaseError:
    return DatabaseError("the listener is closed", error_type="ListenerClosed", connection_lost=True)
