"""`Due`: when the first tasks of a run may begin, as its caller wants it."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from pgflow_starter.core.moments import in_utc
from pgflow_starter.core.rules import is_number

LONGEST_DELAY = 9e12
"""Seconds: 285,000 years, which PostgreSQL can still express when they are over."""


class Due(NamedTuple):
    """So many seconds after the call, by the server's clock, or at that time, in ISO 8601; one of them is None."""

    delay: float | None
    at: str | None


def due_of(delay: float | None, at: datetime | None) -> Due | None:
    """What `delay=` and `at=` of a call come to; None: at once. Raises ValueError."""
    if delay is None and at is None:
        return None
    if delay is not None and at is not None:
        raise ValueError("give delay= or at=, not both")
    if delay is not None:
        if not is_number(delay) or not 0 <= delay <= LONGEST_DELAY:
            raise ValueError(f"delay must be a number of seconds, from 0 to {LONGEST_DELAY:.0e}, got {delay!r}")
        return Due(float(delay), None) if delay else None
    if not isinstance(at, datetime) or at.utcoffset() is None:
        got = f"a naive one, of which nobody knows the time zone: {at!r}" if isinstance(at, datetime) else repr(at)
        raise ValueError(f"at must be an aware datetime, as datetime.now(UTC) + timedelta(hours=1) is, got {got}")
    return Due(None, in_utc("at", at).isoformat())
