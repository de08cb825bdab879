"""`Canceller`: asks the server to cancel a statement, which takes a connection of its own."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import psycopg

from pgflow_starter.clock import Clock
from pgflow_starter.postgres.connections.pace import Pace
from pgflow_starter.postgres.connections.time_limits import TimeLimit

logger = logging.getLogger("pgflow_starter.database")

CANCEL_TIMEOUT = 2.0
"""Seconds that a request to cancel a statement may take."""

CANCEL_LEAST = 0.05
"""Seconds that it may take however little of the limit is left."""

CANCEL_PATIENCE = 1.0
"""Seconds that it may wait for its turn to connect; else there is none."""


class Canceller:
    """Thread-safe. `closed_within(seconds)` waits that long, and is true once nobody is to connect any more."""

    def __init__(
        self, pace: Pace, clock: Clock, *, away: Callable[[], object], closed_within: Callable[[float], bool]
    ) -> None:
        self._pace = pace
        self._clock = clock
        self._away = away
        self._closed_within = closed_within
        self.turn = threading.Lock()
        """One request at a time: while they are answered none has to wait for its turn to connect."""

    def cancel(self, limit: TimeLimit) -> None:
        """Ask for the end of what `limit` is on, within a few seconds; not where the database is away. Raises nothing.

        A request is a connection attempt, too.
        """
        deadline = self._clock.monotonic() + CANCEL_PATIENCE
        if not self.turn.acquire(timeout=CANCEL_PATIENCE):
            return
        try:
            turn = None
            if not self._away():
                turn = self._pace.reserve_within(deadline - self._clock.monotonic())
            if turn is None or self._closed_within(turn) or self._away():
                return  # the limit will break the connection
            self._pace.begin()
            limit.interrupt(min(CANCEL_TIMEOUT, max(limit.deadline - self._clock.monotonic(), CANCEL_LEAST)))
            self._pace.give_back()
        except (psycopg.Error, OSError) as error:
            logger.debug("cancelling a statement failed: %s", type(error).__name__)
        finally:
            self.turn.release()
