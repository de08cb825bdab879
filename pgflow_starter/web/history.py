"""`History`: what the queues had waiting and got done in the last hour, in slots of a quarter of a minute.

It is fed by whoever asks for the queues, the page every few seconds: nobody looks, nothing is spent, and the slots in
which nobody looked say that nothing is known.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping
from typing import Any

from pgflow_starter.core.views import QueueDepth

EVERY = 15
"""Seconds of a slot."""

SLOTS = 240

_NEVER = -SLOTS

_WHAT = ("waiting", "done", "failed")


class History:
    """A ring. A queue in which nothing was going on has none. One thread at a time."""

    def __init__(self) -> None:
        self._looked_in = array("q", [_NEVER] * SLOTS)  # which slot it was
        self._counted_in = array("q", [_NEVER] * SLOTS)
        self._slot = _NEVER
        self._totals: dict[str, tuple[int, int]] = {}
        self._rings: dict[str, dict[str, array[int]]] = {}

    def note(self, queues: Iterable[QueueDepth], failed: Mapping[str, int], now: float) -> None:
        """How the queues stand at `now`, seconds; `failed` attempts that this process has counted, by flow."""
        slot, before = int(now // EVERY), self._slot
        at = slot % SLOTS
        if slot != before:
            for ring in self._rings.values():
                for what in _WHAT:
                    ring[what][at] = 0
        # What was done since the look before is this slot's, unless that was long ago.
        counted = 0 <= slot - before <= 1 and before >= 0
        totals = {}
        for queue in queues:
            total = totals[queue.queue] = (queue.archived, failed.get(queue.flow_slug, 0))
            known = self._totals.get(queue.queue, total)
            done, failures = (max(0, n - m) if counted else 0 for n, m in zip(total, known, strict=True))
            if queue.queue in self._rings or queue.waiting or done or failures:
                ring = self._rings.setdefault(queue.queue, {what: array("q", [0] * SLOTS) for what in _WHAT})
                ring["waiting"][at] = queue.waiting
                ring["done"][at] += done
                ring["failed"][at] += failures
        self._totals, self._slot = totals, slot
        self._rings = {name: ring for name, ring in self._rings.items() if name in totals}
        self._looked_in[at] = slot
        if counted:
            self._counted_in[at] = slot

    def of(self, queue: str) -> dict[str, list[Any]]:
        """By the last look, the oldest slot first, None where nothing is known; empty of a queue with nothing."""
        ring = self._rings.get(queue)
        if ring is None or not any(map(any, ring.values())):
            return {what: [] for what in _WHAT}
        slots = range(self._slot - SLOTS + 1, self._slot + 1)
        return {
            what: [
                values[slot % SLOTS] if known[slot % SLOTS] == slot else None
                for known in [self._looked_in if what == "waiting" else self._counted_in]
                for slot in slots
            ]
            for what, values in ring.items()
        }
