"""`Ahead`: how many tasks a worker may claim beyond its free slots, by how long the last ones took.

Where tasks take no time, most of what one costs is the claim it came with. So they are claimed by the batch, as many as
will have begun in a moment. Where they take their time none is: it could begin elsewhere.
"""

from __future__ import annotations

MOMENT = 0.02
"""Seconds within which what was claimed ahead is expected to begin."""

FOR_EACH_SLOT = 10
"""Tasks ahead at most, for each slot but one: with one slot a task is claimed when the one before it has ended."""

POLLS = 10
"""Polls that are one claim then."""

BATCHES = 2
"""So many such claims are ahead at most: one is on its way while the tasks of the other run."""

_UNPROVEN = 1.0
_SHARE = 1 / 16


class Ahead:
    """Of one worker with so many `slots`, and messages in a poll. Each operation is atomic enough to be one."""

    def __init__(self, slots: int, poll: int) -> None:
        self._slots = slots
        self._poll = poll
        self.most = min(FOR_EACH_SLOT * (slots - 1), BATCHES * POLLS * poll)
        """However quick they are."""
        self._mean = _UNPROVEN

    @property
    def batch(self) -> int:
        """How many a claim is for, at most, now."""
        return POLLS * self._poll if self._mean < MOMENT else self._poll

    @property
    def tasks(self) -> int:
        """How many may be claimed ahead now."""
        return min(self.most, int(self._slots * MOMENT / self._mean)) if self._mean < MOMENT else 0

    def ended(self, seconds: float) -> None:
        """A task took so long."""
        self._mean += (seconds - self._mean) * _SHARE

    def unproven(self) -> None:
        """Some that were claimed ahead did not begin."""
        self._mean = _UNPROVEN
