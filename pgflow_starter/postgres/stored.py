"""Values as the database stores them, as Python's."""

from __future__ import annotations

import json
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


def moment(epoch: float) -> datetime:
    """Seconds since 1970 as a time in UTC, to the microsecond."""
    return datetime.fromtimestamp(epoch, UTC)
