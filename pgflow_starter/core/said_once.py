"""`SaidOnce`, `Breaks`: what has been said already, so that a long outage is one log line and not one an attempt."""

from __future__ import annotations

from collections.abc import Hashable


class SaidOnce:
    """Whether a fact is new. Each operation is atomic, so that two threads at worst both find it so."""

    __slots__ = ("_said",)

    def __init__(self) -> None:
        self._said: Hashable = None

    def note(self, fact: Hashable) -> bool:
        """Take the fact down as said; whether it is another than the one before."""
        was, self._said = self._said, fact
        return was != fact

    def clear(self) -> bool:
        """What was said is over; whether there was something."""
        was, self._said = self._said, None
        return was is not None


class Breaks:
    """Whether a failure is for its own log line. Those of an outage are not: the part that found it tells it.

    Nor is a connection that is lost once: the next try waits until it is known whether that is an outage.
    """

    __slots__ = ("_lost",)

    def __init__(self) -> None:
        self._lost = False

    def note_failure(self, *, lost: bool, away: bool) -> bool:
        """Take one down; whether to tell of it: with the connection `lost` or not, in an outage (`away`) or not."""
        was, self._lost = self._lost, lost
        return not away and (was or not lost)

    def succeeded(self) -> None:
        """What may fail went well."""
        self._lost = False
