"""`ParkedRuns`: the runs whose outcomes rest, for somebody has them locked or one was refused, and until when."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from uuid import UUID

from pgflow_starter.core.classify import error_type, reason_for_logs
from pgflow_starter.core.task import Outcome

FIRST_PAUSE, LAST_PAUSE = 0.02, 2.0
"""Seconds until the outcomes of a run that is parked are tried again: at first, and when it has been for long."""

REFUSED_PAUSE = 0.4
"""The longest of them where the database refuses one: for what, only a person can say."""


class ParkedRun:
    """Since when its outcomes wait, and when they are tried again (monotonic clock); what refused them."""

    __slots__ = ("due", "error_type", "pause", "reason", "since")

    def __init__(self, since: float) -> None:
        self.since = self.due = since
        self.pause = FIRST_PAUSE
        self.reason = self.error_type = ""


class ParkedRuns(dict[UUID, ParkedRun]):
    """Those of one worker, by run. Not thread-safe."""

    def due(self, now: float) -> set[UUID]:
        """Those that are to be tried again."""
        return {run for run, parked in self.items() if parked.due <= now}

    def park(self, outcomes: Sequence[Outcome], now: float, error: Exception | None) -> Collection[float]:
        """The runs of these rest, for longer each time: the error refused them, or somebody has them locked.

        For how long, in seconds.
        """
        longest = LAST_PAUSE if error is None else REFUSED_PAUSE
        pauses: dict[float, None] = {}
        for run in dict.fromkeys(outcome.task.run_id for outcome in outcomes):
            parked = self.get(run)
            if parked is None:
                parked = self[run] = ParkedRun(now)
            else:
                parked.pause = min(2 * parked.pause, longest)
            parked.due = now + parked.pause
            pauses[parked.pause] = None
            if error is not None:
                parked.error_type = error_type(error)
                parked.reason = f"step {outcomes[0].task.step_slug} of run {run}: {reason_for_logs(error)}"
        return pauses

    def keep(self, runs: Collection[UUID]) -> None:
        """Of no others do outcomes wait."""
        for run in self.keys() - runs:
            del self[run]
