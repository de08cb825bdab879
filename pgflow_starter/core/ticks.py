"""Which tick of a schedule is to be started now, and which are done with: decided without clock and database."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from itertools import takewhile
from typing import NamedTuple

from pgflow_starter.core.cron import Ticks
from pgflow_starter.core.schedule import CatchUp, Schedule

GRACE = timedelta(seconds=5)
"""A tick that is less late than this was not missed: a process was busy or changed, a connection broke."""

_SECOND = timedelta(seconds=1)
_FIRST_SPAN, _LONGEST_SPAN = timedelta(minutes=1), timedelta(days=1)
_AT_A_TIME = 1000


class Due(NamedTuple):
    """What a schedule has to do.

    `tick`: to be started now. `done`: up to when all ticks are done with. `left`: the first of those that are left for
    good, None where there are none. `next_at`: the first tick that is still to come.
    """

    tick: datetime | None
    done: datetime
    left: datetime | None
    next_at: datetime | None


class Known(NamedTuple):
    """What the database knows: since when it has the flow, None: not yet; which ticks have their run."""

    since: datetime | None
    started: frozenset[datetime]


def due(schedule: Schedule, ticks: Ticks, done: datetime, now: datetime) -> Due:
    """What there is to do at `now`, all ticks up to `done` being done with."""
    recent = now - (_reach(schedule) if schedule.policy is CatchUp.ALL else GRACE)
    floor = max(done, recent)
    tick = _first(ticks, floor, now)
    if tick is None and schedule.policy is CatchUp.LAST:
        tick = _newest(ticks, max(done, now - _reach(schedule)), recent)
    upto = floor if tick is None else max(done, tick - _SECOND)
    return Due(tick, upto, _first(ticks, done, upto), next(ticks(now), None))


def begin_after(
    schedule: Schedule, ticks: Ticks, began: datetime, look: Callable[[Sequence[datetime]], Known]
) -> datetime:
    """Up to when all ticks are done with for a starter that `began` then.

    That is everything before its flow was there, up to the newest tick that has a run, or too long ago. `look` asks
    the database about ticks, and is called only where some may have been missed.
    """
    earliest, high, span = began - _reach(schedule), began, _FIRST_SPAN
    while high > earliest:
        low = max(earliest, high - span)
        missed = list(_between(ticks, low, high))
        while missed and missed[-1] > earliest:
            some, missed = missed[-_AT_A_TIME:], missed[:-_AT_A_TIME]
            known = look(some)
            if known.since is None:
                return began
            if known.started:
                return max(known.started)
            earliest = min(max(earliest, known.since), began)
            if schedule.policy is CatchUp.LAST:
                return max(earliest, low)  # older ones are of no interest
        high, span = low, min(span * 4, _LONGEST_SPAN)
    return earliest


def _reach(schedule: Schedule) -> timedelta:
    """How late a tick may be started."""
    within = timedelta() if schedule.policy is CatchUp.NONE else timedelta(seconds=schedule.catch_up_within)
    return max(GRACE, within)


def _first(ticks: Ticks, after: datetime, upto: datetime) -> datetime | None:
    return next(iter(_between(ticks, after, upto)), None)


def _newest(ticks: Ticks, after: datetime, upto: datetime) -> datetime | None:
    high, span = upto, _FIRST_SPAN
    while high > after:
        low = max(after, high - span)
        found = list(_between(ticks, low, high))
        if found:
            return found[-1]
        high, span = low, min(span * 4, _LONGEST_SPAN)
    return None


def _between(ticks: Ticks, after: datetime, upto: datetime) -> takewhile[datetime]:
    return takewhile(lambda tick: tick <= upto, ticks(after))
