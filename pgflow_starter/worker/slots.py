"""`Slots`: how many tasks a worker may claim, by what runs, hangs and waits to be written."""

from __future__ import annotations

import threading

from pgflow_starter.core.trouble import TroubleKind, TroubleScope
from pgflow_starter.worker.ahead import Ahead
from pgflow_starter.worker.flights import Flights
from pgflow_starter.worker.outbox import Outbox
from pgflow_starter.worker.troubles import Troubles

WAITING = 2
"""Outcomes for each slot but one that may wait to be written before a worker claims less than it has slots for. The
more, the more are written together; but what is not written runs again should the process die. So with one slot a task
begins when the one before it is written. As many as are claimed ahead may wait in any case."""

HANGING = 4
"""Handlers for each slot that may hang, given up, until the worker claims no more: each keeps a thread, and what it
holds."""

HANG = (
    "{} handlers of steps {} have not ended although they were given up, so that no more tasks are claimed until some"
    " have: give what they wait for a limit of its own, have them look at ctx.cancelled, or start the process anew"
)


class Slots:
    """Of one worker, `count` tasks at a time. Thread-safe; never waits."""

    def __init__(self, count: int, ahead: Ahead, flights: Flights, outbox: Outbox, troubles: Troubles) -> None:
        self.count = count
        self.most = count + ahead.most
        """How many tasks may be under way."""
        self._ahead = ahead
        self._flights = flights
        self._outbox = outbox
        self._troubles = troubles
        self._judging = threading.Lock()

    def wanted(self) -> int:
        """How many tasks to claim now."""
        return min(self.free(), self._ahead.batch)

    def free(self) -> int:
        """How many tasks may be claimed; none where it is less than one."""
        flying, hanging = len(self._flights), self._flights.abandoned
        if hanging:  # nobody knows how long the next ones take
            return min(self._free(flying, 0), HANGING * self.count - hanging - flying)
        # While some wait for a slot there is no hurry: a claim is worth it when it is for a whole batch.
        least = self._ahead.batch if flying > self.count else 1
        if self.most - flying < least:
            return 0
        free = self._free(flying, self._ahead.tasks)
        return free if free >= least else 0

    def _free(self, flying: int, ahead: int) -> int:
        return self.count + ahead - flying - max(0, self._outbox.weight - max(WAITING * (self.count - 1), ahead))

    def judge_hanging(self) -> None:
        """Handlers that were given up go on: so many may, and each that ends makes room for another."""
        with self._judging:  # else what was found first may be said last
            hanging = self._flights.hanging
            if len(hanging) < HANGING * self.count:
                self._troubles.end(TroubleKind.HANDLERS_HANG)
            else:
                steps = ", ".join(sorted({repr(task.step_slug) for task in hanging}))
                said = HANG.format(len(hanging), steps)
                self._troubles.begin(TroubleKind.HANDLERS_HANG, said, scope=TroubleScope.ALL)
