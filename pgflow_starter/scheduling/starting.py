"""How a tick is started: an errand for a thread that may wait, over what the database offers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from typing import Protocol
from uuid import UUID

from pgflow_starter.core.classify import classify
from pgflow_starter.core.cron import Ticks
from pgflow_starter.core.missed import Gap, missed_in
from pgflow_starter.core.phases import Phase
from pgflow_starter.core.schedule import Schedule
from pgflow_starter.core.state import ErrorClass, MissedTicks
from pgflow_starter.core.ticks import Known, begin_after


class TickStarter(Protocol):
    """Starts runs, and knows those that there are. Blocks on I/O; thread-safe. Both raise PgflowError."""

    def start(self, schedule: Schedule, run_id: UUID) -> bool:
        """Start a run of that id; whether it was not there already. Raises ValueError, too, for an input no JSON."""

    def known(self, slug: str, run_ids: Sequence[UUID]) -> tuple[datetime | None, frozenset[UUID]]:
        """Since when the database has the flow, None where it has not; those of the runs that are there."""


class Errand:
    """One errand of a schedule: to start a tick, to look into a `gap`, or else to find out what was missed before.

    It outlives the actor that sent it; `came` is called when it has ended.
    """

    def __init__(
        self, tick: datetime | None, gap: Gap | None, call: Callable[[], object], came: Callable[[], object]
    ) -> None:
        self.tick = tick
        self.gap = gap
        self.done = False
        self.result: object = None
        self.error: BaseException | None = None
        self._call = call
        self._came = came

    def run(self) -> None:
        """On the thread that may wait."""
        try:
            self.result = self._call()
        except BaseException as error:
            self.error = error
        self.done = True
        self._came()

    @property
    def failed_for_good(self) -> bool:
        """Whether the same again would fail in the same way."""
        error = self.error
        return isinstance(error, ValueError | TypeError) or (
            error is not None and classify(error, Phase.WORKER) is ErrorClass.PERMANENT
        )


def look_back(schedule: Schedule, ticks: Ticks, began: datetime, starter: TickStarter) -> datetime:
    """Up to when all ticks are done with for a starter that began then. Blocks on I/O. Raises PgflowError."""
    return begin_after(schedule, ticks, began, partial(_known, schedule, starter))


def look_into(gap: Gap, schedule: Schedule, ticks: Ticks, starter: TickStarter) -> MissedTicks | None:
    """What of it nobody started. Blocks on I/O. Raises PgflowError."""
    return missed_in(gap, ticks, partial(_known, schedule, starter))


def _known(schedule: Schedule, starter: TickStarter, ticks: Sequence[datetime]) -> Known:
    ids = {schedule.run_id(tick): tick for tick in ticks}
    since, there = starter.known(schedule.slug, list(ids))
    return Known(since, frozenset(ids[run_id] for run_id in there))
