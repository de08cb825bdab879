"""The words of a query: which runs are wanted, and places as text."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs
from uuid import UUID

from pgflow_starter.core.moments import in_utc
from pgflow_starter.core.runs import RUN_STATUSES
from pgflow_starter.core.views import Place, RunsWanted

LIMIT = 20
"""Runs of a page, unless more are asked for."""

MOST = 100
"""Runs of a page at most."""

_KNOWN = ("status", "flow", "since", "until", "id", "after", "limit")
_LONGEST = 2_000
_FLOW = re.compile(r"[\x21-\x7e]{1,128}")
_PLACE = re.compile(r"(-?[0-9]{1,18})\.([0-9a-f]{32})")
_LOST_PLUS = re.compile(r" (?=[0-9]{2}:?[0-9]{2}$)")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def runs_wanted(environ: Mapping[str, Any]) -> RunsWanted:
    """What the request's query asks for; a word without a value asks nothing. Raises ValueError, naming the word."""
    text = environ.get("QUERY_STRING", "")
    if len(text) > _LONGEST:
        raise ValueError(f"the query is longer than {_LONGEST} characters")
    words = parse_qs(text, max_num_fields=20)
    for name, values in words.items():
        if name not in _KNOWN:
            raise ValueError(f"there is no word {name[:50]!r}: {', '.join(_KNOWN)} are known")
        if name != "status" and len(values) > 1:
            raise ValueError(f"{name} may be there once")
    of = {name: values[0] for name, values in words.items()}
    statuses = frozenset(words.get("status", ()))
    if unknown := sorted(statuses.difference(RUN_STATUSES)):
        raise ValueError(f"status must be one of {', '.join(RUN_STATUSES)}, got {unknown[0][:50]!r}")
    return RunsWanted(
        statuses,
        _flow(of.get("flow")),
        _time("since", of.get("since")),
        _time("until", of.get("until")),
        uuid_in(of["id"], "id") if "id" in of else None,
        _place(of.get("after")),
        _limit(of.get("limit")),
    )


def place_text(place: Place | None) -> str | None:
    """As `after` takes it."""
    if place is None:
        return None
    return f"{(place.began - _EPOCH) // timedelta(microseconds=1)}.{place.run_id.hex}"


def uuid_in(text: str, name: str) -> UUID:
    """Raises ValueError, naming it."""
    try:
        return UUID(text)
    except ValueError:
        raise ValueError(f"{name} must be a UUID, got {text[:50]!r}") from None


def _flow(text: str | None) -> str | None:
    if text is not None and not _FLOW.fullmatch(text):
        raise ValueError(f"flow must be a slug, got {text[:50]!r}")
    return text


def _time(name: str, text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(_LOST_PLUS.sub("+", text))  # which stands for a space in a query
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise ValueError(f"{name} must be a time in ISO 8601 with its zone, got {text[:50]!r}")
    return in_utc(name, found)


def _place(text: str | None) -> Place | None:
    if text is None:
        return None
    found = _PLACE.fullmatch(text)
    try:
        if found is not None:
            return Place(_EPOCH + timedelta(microseconds=int(found[1])), UUID(hex=found[2]))
    except OverflowError:
        pass
    raise ValueError(f"after must be the next of the page before, got {text[:50]!r}")


def _limit(text: str | None) -> int:
    if text is None:
        return LIMIT
    if not re.fullmatch(r"[0-9]{1,3}", text) or not 1 <= int(text) <= MOST:
        raise ValueError(f"limit must be a number from 1 to {MOST}, got {text[:50]!r}")
    return int(text)
