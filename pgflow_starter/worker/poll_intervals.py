"""When a worker polls next, as pure decisions. All times in seconds."""

from __future__ import annotations

from math import ceil
from typing import NamedTuple

from pgflow_starter.core.definition import FlowDefinition, StepDefinition
from pgflow_starter.core.phases import SignalStrategy

QUICK = 0.04
"""With the time for gathering the workers that ask, and for the claim, it comes to some fourteen polls a second."""

PATIENT = 1.0
"""A longer least interval than this, the default, says that no poll is wanted sooner."""

BRIDGE = 5.0
"""Without work for so long a worker is idle: what comes every few seconds shall find it quick."""

FORESEEN = 600.0
"""From this on a poll tells in time when a message is visible: no two are further apart."""

TOGETHER = 0.05
"""So long tasks that snooze wait for each other at most, to be looked for together."""

_SETTLE_MARGIN = 0.01
_LONGEST = 86_400.0


class PollPolicy(NamedTuple):
    """How often an idle worker polls.

    Polling: `QUICK` while there was work within the last `BRIDGE` seconds, or `least` where that is less or longer than
    `PATIENT`; then `least`, doubling up to `most`. Notify: every `fallback`, and once more `throttle` after each
    wake-up, for pgmq announces nothing within the throttle and sends no notification when it has passed.
    """

    strategy: SignalStrategy
    least: float
    most: float
    fallback: float
    throttle: float

    def after(self, since_work: float, last: float) -> float:
        """The next interval, so long after the last work; `last` is the one before, 0 where it is no matter."""
        if self.strategy is SignalStrategy.NOTIFY:
            return self.fallback
        if since_work < BRIDGE:
            return self.least if self.least > PATIENT else min(QUICK, self.least)
        return min(max(last * 2, self.least), self.most)

    def quickens(self, since_work: float) -> bool:
        """Whether work that comes to its end so long after the last has to wake a worker that polls as if idle."""
        return self.strategy is SignalStrategy.POLLING and since_work >= BRIDGE

    def after_error(self, last: float) -> float:
        """The next interval after a poll that failed."""
        return min(max(last * 2, self.least), self.most)

    @property
    def trailing(self) -> float | None:
        """How long after a wake-up to poll once more; None when nothing is throttled."""
        if self.strategy is SignalStrategy.NOTIFY and self.throttle > 0:
            return self.throttle + _SETTLE_MARGIN
        return None


def retry_delay(definition: FlowDefinition, step: StepDefinition, attempt: int) -> float | None:
    """When a task that failed in its `attempt` is visible again, by pgflow's rule; None when it has no attempt left."""
    attempts, base = definition.retries_of(step)
    if attempt >= attempts:
        return None
    return min(base * 2.0 ** min(attempt, 60), _LONGEST) + _SETTLE_MARGIN


def snooze_delay(left: float) -> set[float]:
    """When a task that snoozes is visible again, that long from now; empty where a poll will tell in time."""
    if left > FORESEEN:
        return set()
    return {ceil(left / TOGETHER) * TOGETHER + _SETTLE_MARGIN if left > 0 else 0.0}


def dependents_delays(definition: FlowDefinition, step_slug: str) -> set[float]:
    """When the steps behind a completed one are visible; empty when there are none."""
    return {_visible_in(s.start_delay) for s in definition.steps if step_slug in s.depends_on}


def root_delays(definition: FlowDefinition) -> set[float]:
    """When the root steps of a run are visible that do not start at once: pgmq announces their insertion only."""
    return {_visible_in(s.start_delay) for s in definition.steps if not s.depends_on and s.start_delay}


def _visible_in(start_delay: int | None) -> float:
    return start_delay + _SETTLE_MARGIN if start_delay else 0.0
