"""`Shutdown`: whether a starter stops, and until when its tasks may end. Said once, before anything else of its end."""

from __future__ import annotations

NEVER = float("inf")


class Shutdown:
    """One value, so that nobody sees that it stops without a deadline. Whoever judges a failure reads `begun`.

    What fails from then on may fail because of the end: no attempt has failed by it, no worker is in trouble, nobody
    was deprecated. Thread-safe; a signal handler may begin it on top of whoever reads it.
    """

    def __init__(self) -> None:
        self._deadline = NEVER

    @property
    def begun(self) -> bool:
        """Whether the starter stops."""
        return self._deadline < NEVER

    @property
    def deadline(self) -> float:
        """Until when (monotonic clock) running tasks may end; long ago where it is not the starter that stops."""
        return self._deadline if self.begun else 0.0

    def begin(self, deadline: float) -> None:
        """It stops; never later than promised first, but sooner if somebody is in a hurry now."""
        self._deadline = min(self._deadline, deadline)
