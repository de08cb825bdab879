"""`Shutdown`: whether a starter stops, and until when its tasks may end. Said once, before anything else of its end."""

from __future__ import annotations


class Shutdown:
    """Nobody sees that it stops without a deadline. Every part that judges a failure reads `begun`.

    What fails from then on may fail because of the end: no attempt has failed by it, no worker is in trouble, nobody
    was deprecated. Thread-safe; a signal handler may begin it on top of code that reads or begins it.
    """

    def __init__(self) -> None:
        # All that were given: a caller that replaced the nearest would undo what came between its look and its word.
        self._deadlines: list[float] = []

    @property
    def begun(self) -> bool:
        """Whether the starter stops."""
        return bool(self._deadlines)

    @property
    def deadline(self) -> float:
        """Until when (monotonic clock) running tasks may end; long ago where it is not the starter that stops."""
        return min(self._deadlines, default=0.0)

    def begin(self, deadline: float) -> None:
        """It stops; never later than promised first, but sooner if somebody is in a hurry now."""
        self._deadlines.append(deadline)
