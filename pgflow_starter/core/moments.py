"""Times that callers give."""

from __future__ import annotations

from datetime import UTC, datetime


def in_utc(name: str, time: datetime) -> datetime:
    """An aware time as UTC has it. The server takes offsets of whole seconds alone, and UTC is one.

    Raises ValueError, which names what it was given as.
    """
    try:
        return time.astimezone(UTC)
    except OverflowError:
        raise ValueError(f"{name} must be a time that is within the years 1 to 9999 in UTC, got {time!r}") from None
