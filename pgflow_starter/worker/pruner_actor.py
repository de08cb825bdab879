"""`PrunerActor`: finished runs are deleted in time, and nobody's work is slowed down by it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pgflow_starter.clock import Clock, Timers
from pgflow_starter.core.classify import reason
from pgflow_starter.core.said_once import SaidOnce
from pgflow_starter.errors import DatabaseError, PgflowError
from pgflow_starter.shutdown import Shutdown
from pgflow_starter.worker.rhythmic import RhythmicActor

if TYPE_CHECKING:
    from pgflow_starter.ports import Pruning

logger = logging.getLogger("pgflow_starter.housekeeping")

SOON, LATER = 60.0, 900.0
"""Seconds until all runs are looked through again: where some were left or it failed, and where not."""

PAUSE = 9.0
"""Times as long as a batch took until the next."""


class Prune:
    """Time for a batch."""


class PrunerActor(RhythmicActor):
    """One per starter that has a retention."""

    thread_name = "pgflow-pruner"

    def __init__(self, pruning: Callable[[], Pruning], clock: Clock, timers: Timers, shutdown: Shutdown) -> None:
        super().__init__(timers)
        self._pruning = pruning
        self._clock = clock
        self._shutdown = shutdown
        self._failing = SaidOnce()
        self._steps: Pruning | None = None
        self._deleted = 0

    def on_start(self) -> None:
        self.again(SOON, Prune())

    def on_stop(self) -> None:
        if self._steps is not None:
            self._steps.close()

    def on_receive(self, message: Any) -> None:
        match message:
            case Prune() if self._shutdown.begun:
                return
            case Prune():
                self.again(self._next(), message)
            case _:
                super().on_receive(message)

    def _next(self) -> float:
        """Delete some; how many seconds until there are more to delete."""
        began = self._clock.monotonic()
        steps = self._steps = self._steps or self._pruning()
        try:
            self._deleted += next(steps)
        except StopIteration as end:
            self._ended()
            if self._failing.clear():
                logger.info("pruning goes well again")
            return SOON if end.value else LATER
        except PgflowError as error:
            self._ended()
            said = reason(error)
            lost = isinstance(error, DatabaseError) and error.connection_lost  # an outage is logged where it was found
            quiet = lost or self._shutdown.begun or not self._failing.note(said)
            logger.log(logging.DEBUG if quiet else logging.WARNING, "pruning: %s", said)
            return SOON
        return PAUSE * (self._clock.monotonic() - began)

    def _ended(self) -> None:
        if self._deleted:
            logger.info("%d finished runs were deleted", self._deleted)
        self._steps, self._deleted = None, 0
