"""`ClaimSize`: how many tasks a claim asks for, and how long it may take, by how the last ones went.

One that exceeds its limit is made again smaller, and one of a single task with more time. Big inputs over a slow link
and slow functions get done that way. It grows again as claims take little of what the one took that was too long.
"""

from __future__ import annotations

LONGEST = 32.0
"""Times the usual limit that a claim of one task may take at most."""

SMALLER = 4
"""After a claim that took too long one part of so many is asked for; one that takes no longer lets it grow."""


class ClaimSize:
    """Of one worker; decisions only. Not thread-safe."""

    def __init__(self, usual: int) -> None:
        self._usual = usual
        self._most = usual
        self._too_long = 0.0
        self.answers = 1.0

    @property
    def small(self) -> bool:
        """Whether claims are smaller, or may take longer, than usual."""
        return self._most < self._usual or self.answers > 1

    def of(self, wanted: int) -> int:
        """How many of the wanted to ask for."""
        return min(wanted, self._most)

    def exceeded(self, quantity: int, seconds: float) -> None:
        """A claim of so many took so long, and was given up for that."""
        self._too_long = seconds / self.answers
        if quantity > 1:
            self._most = max(1, quantity // SMALLER)
        else:
            self._most = 1
            self.answers = min(2 * self.answers, LONGEST)

    def done(self, seconds: float) -> None:
        """A claim went well, and took so long."""
        if self.small and seconds * SMALLER < self._too_long * self.answers:
            if self.answers > 1:
                self.answers /= 2
            else:
                self._most = min(2 * self._most, self._usual)
