"""`ListenerErrands`: what the LISTEN connection has done for it over a pooled one, on threads that may wait."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

from pgflow_starter.actors.phase_job import PhaseScope
from pgflow_starter.actors.threads import ThreadCache, run_patiently
from pgflow_starter.core.classify import reason
from pgflow_starter.core.news import News
from pgflow_starter.errors import PgflowError
from pgflow_starter.ports import Timers
from pgflow_starter.postgres import pgmq
from pgflow_starter.postgres.database import Database
from pgflow_starter.postgres.flows import PostgresFlowStore

logger = logging.getLogger("pgflow_starter")

AGAIN_INTERVAL = 1.0
"""Seconds until enabling notifications again is tried again."""


class ListenerErrands:
    """Both return at once and raise nothing, also where no thread is to be had. Thread-safe.

    `wake` is told a queue's name.
    """

    def __init__(
        self,
        database: Database,
        flow_store: PostgresFlowStore,
        throttle_ms: int,
        wake: Callable[[str], object],
        threads: ThreadCache,
        timers: Timers,
    ) -> None:
        self._database = database
        self._flow_store = flow_store
        self._throttle_ms = throttle_ms
        self._wake = wake
        self._threads = threads
        self._timers = timers
        self._unproven = News()
        self._not_enabled: set[str] = set()

    def prove(self, channel: str, sent: Callable[[bool], None]) -> None:
        """Send a notification to the channel; then `sent` is called with whether it could be, whatever happened.

        On the thread, or on the caller's where there is none: who is never told would never ask again.
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
            self._unproven.over()
        except RuntimeError as error:
            level = logging.WARNING if self._unproven.says("no thread") else logging.DEBUG
            logger.log(level, "a proof for the LISTEN connection could not be sent: %s", error)
            sent(False)

    def enable_again(self, queues: list[str]) -> None:
        """Let inserts into the queues notify, and wake their workers; tried again every second until it is done.

        The throttle table is UNLOGGED: after a crash of the server it is empty, and nothing would notify.
        """

        def enable() -> None:
            for i, queue in enumerate(queues):
                try:
                    self._flow_store.enable_notify(queue, self._throttle_ms, PhaseScope())
                except Exception as error:
                    level = logging.DEBUG if queue in self._not_enabled else logging.WARNING
                    self._not_enabled.add(queue)
                    fields = {"pgflow_slug": queue}
                    logger.log(level, "%s: enabling notifications again: %s", queue, reason(error), extra=fields)
                    self._timers.after(AGAIN_INTERVAL, partial(self.enable_again, queues[i:]))
                    return
                self._not_enabled.discard(queue)
                self._wake(queue)

        run_patiently(self._threads, self._timers, enable)
