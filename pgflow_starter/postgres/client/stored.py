"""Values as the database stores them, as Python's."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from typing import Any

from pgflow_starter.errors import PgflowError


def stored_json(text: str | None, what: str) -> Any:
    """JSON text as data, None for none. Raises PgflowError, naming `what`, where it goes beyond what Python parses."""
    try:
        return None if text is None else json.loads(text)
    except (ValueError, RecursionError) as unreadable:
        msg = f"{what} cannot be read: {type(unreadable).__name__}: {unreadable}"
        raise PgflowError(msg) from unreadable


def moment(epoch: float | None, what: str, notes: list[str]) -> datetime | None:
    """Seconds since 1970 as a time in UTC, to the microsecond; None for none.

    None, too, for a time that Python has not, infinity and the years before 1 and after 9999: `notes` are told of it.
    """
    if epoch is None:
        return None
    try:
        return datetime.fromtimestamp(epoch, UTC)
    except (ValueError, OverflowError, OSError):
        told = f"{epoch:.0f} seconds from 1970" if math.isfinite(epoch) else f"{epoch:f}".replace("inf", "infinity")
        notes.append(f"{what} cannot be read: it is beyond what a datetime can express ({told})")
        return None
