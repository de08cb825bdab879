"""`ListenerErrands`: what the LISTEN connection has done for it over a pooled one, on threads that may wait."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from functools import partial

from pgflow_starter.clock import Timers
from pgflow_starter.core.classify import error_type, reason
from pgflow_starter.core.said_once import SaidOnce
from pgflow_starter.core.trouble import TroubleKind, with_remedy
from pgflow_starter.errors import DatabaseError, PgflowError
from pgflow_starter.postgres.connections.database import Database
from pgflow_starter.postgres.stores import pgmq
from pgflow_starter.postgres.stores.flows import PostgresFlowStore
from pgflow_starter.threads.cache import ThreadCache, run_patiently
from pgflow_starter.threads.interrupt_scope import InterruptScope
from pgflow_starter.worker.troubles import Troubles

logger = logging.getLogger("pgflow_starter.listener")

AGAIN_INTERVAL = 1.0
"""Seconds until enabling notifications again is tried again."""


class ListenerErrands:
    """All return at once and raise nothing, also where no thread is to be had. Thread-safe.

    `wake` and `troubles_of` are told a queue's name.
    """

    def __init__(
        self,
        database: Database,
        flow_store: PostgresFlowStore,
        throttle_ms: int,
        wake: Callable[[str], object],
        troubles_of: Callable[[str], Troubles],
        threads: ThreadCache,
        timers: Timers,
    ) -> None:
        self._database = database
        self._flow_store = flow_store
        self._throttle_ms = throttle_ms
        self._wake = wake
        self._troubles_of = troubles_of
        self._threads = threads
        self._timers = timers
        self._unproven = SaidOnce()
        self._lock = threading.Lock()  # around the next two lines'
        self._failed: frozenset[str] = frozenset()
        self._listened_to: Callable[[], Sequence[str]] | None = None
        self._armed = False

    def prove(self, channel: str, sent: Callable[[bool], None]) -> None:
        """Send a notification to the channel; then `sent` is called with whether it could be, whatever happened.

        On a thread, or on the caller's where there is none: a caller that is never answered would never ask again.
        """

        def send() -> None:
            did = False
            try:
                self._database.call(lambda conn: pgmq.notify(conn, channel))
                did = True
            except PgflowError as error:
                logger.debug("a proof for the LISTEN connection could not be sent: %s", error)
            finally:
                sent(did)

        try:
            self._threads.run(send)
            self._unproven.clear()
        except RuntimeError as error:
            level = logging.WARNING if self._unproven.note("no thread") else logging.DEBUG
            logger.log(level, "a proof for the LISTEN connection could not be sent: %s", error)
            sent(False)

    def enable_again(self, queues: Sequence[str]) -> None:
        """Let inserts into the queues notify, and wake their workers; tried again every second until it is done.

        The throttle table is UNLOGGED: after a crash of the server it is empty, and nothing would notify. The worker of
        a queue where it cannot be done is in trouble meanwhile.
        """
        run_patiently(self._threads, self._timers, partial(self._enable, queues))

    def watch(self, queues: Callable[[], Sequence[str]], interval: float) -> None:
        """Look every `interval` seconds, from now on, for queues whose inserts do not notify any more, and enable it.

        Who makes a queue anew makes it without trigger, and the LISTEN connection is as it was.
        """

        self._listened_to = queues

        def come() -> None:
            self._timers.after(interval, come)
            run_patiently(self._threads, self._timers, lambda: self._look(queues()))

        self._timers.after(interval, come)

    def _look(self, queues: Sequence[str]) -> None:
        try:
            silent = self._flow_store.silent(queues) if queues else []
        except PgflowError as error:
            logger.debug("whether queues notify could not be looked up: %s", error)
            return
        lost = [queue for queue in silent if queue not in self._failed]  # these are seen to
        for queue in lost:
            fields = {"pgflow_slug": queue}
            logger.warning("%s: the queue's trigger or throttle row was lost: nobody was notified", queue, extra=fields)
        self._enable(lost)

    def _enable(self, queues: Sequence[str]) -> None:
        failed: list[str] = []
        for i, queue in enumerate(queues):
            try:
                self._flow_store.enable_notify(queue, self._throttle_ms, InterruptScope())
            except Exception as error:
                logger.debug("%s: enabling notifications again: %s", queue, reason(error))
                if isinstance(error, DatabaseError) and error.connection_lost:
                    failed += queues[i:]
                    break
                failed.append(queue)
                kind = error_type(error)
                why = f"enabling that failed: {with_remedy(reason(error), kind)}"
                told = f"inserts into the queue notify nobody, and {why}"
                self._troubles_of(queue).begin(TroubleKind.NOT_NOTIFIED, told, error_type=kind)
            else:
                self._troubles_of(queue).end(TroubleKind.NOT_NOTIFIED)
                self._wake(queue)
        with self._lock:
            self._failed = (self._failed - set(queues)) | set(failed)
            arm = bool(self._failed) and not self._armed
            self._armed = self._armed or arm
        if arm:
            self._timers.after(AGAIN_INTERVAL, self._try_again)

    def _try_again(self) -> None:
        with self._lock:
            self._armed = False
            gone = self._failed.difference(self._failed if self._listened_to is None else self._listened_to())
            self._failed -= gone
            failed = sorted(self._failed)
        for queue in gone:  # for good, perhaps: its flow was compiled anew with others
            self._troubles_of(queue).end(TroubleKind.NOT_NOTIFIED)
        self.enable_again(failed)
