"""What is read now and then of queues and connections, as values."""

from __future__ import annotations

from typing import NamedTuple


class QueueDepth(NamedTuple):
    """One queue at one moment.

    `waiting` messages can be read; `hidden` ones not yet, for somebody has read them or they are for later. Both are
    counted up to `MOST_COUNTED`. `oldest`: for how many seconds the one that has waited longest could have been read; 0
    where none waits.
    """

    queue: str
    waiting: int
    hidden: int
    oldest: float


MOST_COUNTED = 50_000
"""Messages of a queue, waiting or hidden: counting more of them would take the server longer than 20 ms."""


class PoolUse(NamedTuple):
    """A pool at one moment: connections that it may have, that there are, that are in use; callers who wait for one."""

    size: int
    made: int = 0
    used: int = 0
    awaited: int = 0
