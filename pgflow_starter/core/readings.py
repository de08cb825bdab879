"""What is read now and then of queues and connections, as values."""

from __future__ import annotations

from typing import NamedTuple


class QueueDepth(NamedTuple):
    """One queue at one moment.

    `waiting` messages can be read; `hidden` ones not yet, for somebody has read them or they are for later. Above
    `MOST_COUNTED` each is about so many. `oldest_age`: for how many seconds the one that has waited longest could have
    been read; None where none waits.
    """

    queue: str
    waiting: int
    hidden: int
    oldest_age: float | None


MOST_COUNTED = 20_000
"""Messages of a queue that are counted one by one, of those that wait and of those that are hidden: it takes the server
10 ms or less. Above it the server's own count of what it has in the table tells about how many."""


class PoolUse(NamedTuple):
    """A pool at one moment: connections that it may have, that there are, that are in use; callers who wait for one."""

    size: int
    made: int = 0
    used: int = 0
    awaited: int = 0
