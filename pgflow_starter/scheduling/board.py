"""The board of the schedules: what each last did and does next, read by anybody without asking its actor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from math import inf
from typing import Any

import pykka

from pgflow_starter.core.cron import ticks_of
from pgflow_starter.core.missed import Gap
from pgflow_starter.core.said_once import SaidOnce
from pgflow_starter.core.schedule import Schedule
from pgflow_starter.core.state import ScheduleState
from pgflow_starter.scheduling.messages import DatabaseBack
from pgflow_starter.scheduling.starting import Errand
from pgflow_starter.supervision.actor import tell


class ScheduleCell:
    """What outlives the actor of one schedule. Written by that actor alone."""

    def __init__(self, key: int, schedule: Schedule) -> None:
        self.key = key
        self.schedule = schedule
        self.ticks = ticks_of(schedule.cron, schedule.timezone)
        self.done: datetime | None = None
        """Up to when all ticks are done with; None until the database was asked what was missed before."""
        self.errand: Errand | None = None
        """What is under way off the actor's thread, or has ended and was not judged yet."""
        self.tried: datetime | None = None
        """The tick that failed last, and is tried again."""
        self.failures = 0
        self.retry_at = -inf
        """On the monotonic clock."""
        self.not_before: datetime | None = None
        """The tick with which all is tried again, after what will not pass by itself."""
        self.held: str | None = None
        """What has kept ticks from being started at their time, since the last that was."""
        self.gap: Gap | None = None
        """Ticks that were left, and may have been started by another process."""
        self.gap_since = -inf
        """When the first of it was left, on the monotonic clock."""
        self.goes_well_since = inf
        """On the monotonic clock: since when a tick was started that is later than those that were missed."""
        self.look_at = -inf
        """When there is something to be done or looked at again, on the monotonic clock."""
        self.failing = SaidOnce()

    def forget_failures(self) -> None:
        """What comes next is tried at once."""
        self.failures, self.retry_at, self.not_before = 0, -inf, None


class ScheduleBoard:
    """All schedules of a starter, which began at that moment. Thread-safe for those who read and tell."""

    def __init__(self, schedules: Sequence[Schedule], began: datetime) -> None:
        self.began = began
        self.cells = tuple(ScheduleCell(key, schedule) for key, schedule in enumerate(schedules))
        self.ref: pykka.ActorRef[Any] | None = None
        """The actor that there is."""
        self._states = tuple(
            ScheduleState(s.title, s.slug, s.cron, s.timezone, next(cell.ticks(began), None))
            for cell in self.cells
            for s in (cell.schedule,)
        )

    def states(self) -> tuple[ScheduleState, ...]:
        """All of them now, in the order given; the same object while nothing has changed. Never waits."""
        return self._states

    def state_of(self, cell: ScheduleCell) -> ScheduleState:
        """Its state."""
        return self._states[cell.key]

    def publish(self, cell: ScheduleCell, **changes: Any) -> None:
        """Put up what has changed of a schedule's state. For its actor."""
        before = self._states[cell.key]
        after = replace(before, **changes)
        if after != before:
            self._states = (*self._states[: cell.key], after, *self._states[cell.key + 1 :])

    def database_back(self) -> None:
        """The database can be reached again. Does not wait."""
        self.tell(DatabaseBack())

    def tell(self, message: object) -> None:
        """Tell the actor; lost while there is none. Does not wait."""
        tell(self.ref, message)
