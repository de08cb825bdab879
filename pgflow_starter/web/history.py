"""`History`: what the queues had waiting and got done in the last hour, in slots of a quarter of a minute.

It is fed by whoever asks for the queues, the page every few seconds: nobody looks, nothing is spent. What was done
while nobody did is told by the queues' archives afterwards, the last messages of each; what waited then is not known.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping
from typing import Any

from pgflow_starter.core.views import DoneBefore, FlowQueue

EVERY = 15
"""Seconds of a slot."""

SLOTS = 240

LATELY = 8
"""Slots that tell whether a queue moves: the current one and two minutes, less it, before."""

_NEVER = -SLOTS
_UNKNOWN = -1
_WHAT = ("waiting", "done", "failed")


class History:
    """A ring. A queue in which nothing was going on has none. One thread at a time."""

    def __init__(self) -> None:
        self._slot = _NEVER
        self._looked_in = array("q", [_NEVER] * SLOTS)  # which slot it was
        self._counted_in = array("q", [_NEVER] * SLOTS)
        self._totals: dict[str, tuple[int, int]] = {}
        self._rings: dict[str, dict[str, array[int]]] = {}

    def note(self, queues: Iterable[FlowQueue], failed: Mapping[tuple[str, str | None], int], now: float) -> bool:
        """How the queues stand at `now`, seconds; `failed` attempts that this process has counted, by flow and step.

        Whether it follows upon another look: else `recall` has something to tell.
        """
        slot, before = int(now // EVERY), self._slot
        at = slot % SLOTS
        # What was done since the look before is this slot's, unless that was long ago.
        counted = slot - before <= 1
        for passed in range(max(before + 1, slot - SLOTS + 1), slot + 1):
            for ring in self._rings.values():
                ring["waiting"][passed % SLOTS] = ring["failed"][passed % SLOTS] = 0
                ring["done"][passed % SLOTS] = 0 if counted else _UNKNOWN
        self._slot, self._looked_in[at] = slot, slot
        if counted and slot != before:
            self._counted_in[at] = slot
        totals = {}
        for queue in queues:
            name, waiting = queue.depth.queue, queue.depth.waiting
            total = totals[name] = (queue.archived, failed.get((queue.flow_slug, queue.step), 0))
            known = self._totals.get(name, total)
            done, failures = (max(0, n - m) if counted else 0 for n, m in zip(total, known, strict=True))
            if name in self._rings or waiting or done or failures:
                ring = self._ring(name)
                ring["waiting"][at] = waiting
                if ring["done"][at] != _UNKNOWN:
                    ring["done"][at] += done
                ring["failed"][at] += failures
        # One that is not told of may be locked for a moment: it is kept until it has nothing to show.
        self._rings = {name: ring for name, ring in self._rings.items() if name in totals or _shows(ring)}
        for missing in self._rings.keys() - totals.keys():
            self._rings[missing]["waiting"][at] = _UNKNOWN
        self._totals = {name: total for name, total in self._totals.items() if name in self._rings} | totals
        return counted

    def recall(self, queues: Iterable[DoneBefore]) -> None:
        """What was done before the look that was just noted."""
        for queue in queues:
            if queue.queue not in self._totals or not (queue.counts or queue.queue in self._rings):
                continue
            done = self._ring(queue.queue)["done"]
            for ago in range(min(queue.slots, SLOTS)):
                done[(self._slot - ago) % SLOTS] = queue.counts.get(ago, 0)

    def of(self, queue: str) -> dict[str, list[Any]]:
        """By the last look, the oldest slot first, None where nothing is known; empty of a queue with nothing."""
        ring = self._rings.get(queue)
        if ring is None or not _shows(ring):
            return {what: [] for what in _WHAT}
        slots = range(self._slot - SLOTS + 1, self._slot + 1)
        seen = {"waiting": self._looked_in, "failed": self._counted_in}
        return {
            what: [
                value if value != _UNKNOWN and (what == "done" or seen[what][slot % SLOTS] == slot) else None
                for slot in slots
                for value in [values[slot % SLOTS]]
            ]
            for what, values in ring.items()
        }

    def done_lately(self, queue: str) -> int:
        """Messages that were done within `LATELY` of the last look, as far as is known."""
        ring = self._rings.get(queue)
        slots = range(self._slot - LATELY + 1, self._slot + 1)
        return 0 if ring is None else sum(max(0, ring["done"][slot % SLOTS]) for slot in slots)

    def _ring(self, queue: str) -> dict[str, array[int]]:
        """The queue's, from now on: where it was counted before there was nothing."""
        if queue not in self._rings:
            counted = [0 if self._slot - slot < SLOTS else _UNKNOWN for slot in self._counted_in]
            self._rings[queue] = {
                "waiting": array("q", [0] * SLOTS),
                "done": array("q", counted),
                "failed": array("q", [0] * SLOTS),
            }
        return self._rings[queue]


def _shows(ring: Mapping[str, array[int]]) -> bool:
    return max(map(max, ring.values())) > 0
