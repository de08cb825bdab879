"""Ticks that were left: between which moments, and which of them no process started."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from itertools import islice, takewhile
from typing import NamedTuple

from pgflow_starter.core.cron import Ticks
from pgflow_starter.core.state import MissedTicks
from pgflow_starter.core.ticks import Known

MOST = 10_000
"""Ticks of a gap that are looked at, the first of them: nearly three hours of one a second."""

_AT_A_TIME = 1000


class Gap(NamedTuple):
    """The ticks `after` a moment and `upto` another, left here for that reason; others may have started them."""

    after: datetime
    upto: datetime
    reason: str

    def wider(self, other: Gap | None) -> Gap:
        """With an earlier one that nobody has looked into yet."""
        return self if other is None else self._replace(after=min(self.after, other.after))


def missed_in(gap: Gap, ticks: Ticks, look: Callable[[Sequence[datetime]], Known]) -> MissedTicks | None:
    """Those that nobody started, None where there are none; `look` asks the database. What was due before its flow was
    there was missed by nobody."""
    left = islice(takewhile(lambda tick: tick <= gap.upto, ticks(gap.after)), MOST)
    missed: list[datetime] = []
    while some := list(islice(left, _AT_A_TIME)):
        known = look(some)
        if known.since is None:
            return None
        missed += [tick for tick in some if tick >= known.since and tick not in known.started]
    return MissedTicks(len(missed), missed[0], missed[-1], gap.reason) if missed else None


def with_earlier(missed: MissedTicks, earlier: MissedTicks | None) -> MissedTicks:
    """Both as one, for the later reason."""
    if earlier is None:
        return missed
    return MissedTicks(
        earlier.count + missed.count,
        min(earlier.first, missed.first),
        max(earlier.last, missed.last),
        missed.reason,
    )
