"""Which runs: of a status, of a flow, since when."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

import click

from pgflow_starter.cli.durations import parse_duration
from pgflow_starter.cli.options import checked, option
from pgflow_starter.core.moments import in_utc


def filter_options(statuses: Sequence[str]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """`--status`, one of these, `--flow` and `--since`."""
    status = option("--status", type=click.Choice(statuses), help="Runs of this status alone.")
    flow = option("--flow", metavar="SLUG", help="Runs of this flow or job alone.")
    since = option(
        "--since",
        callback=checked(_since),
        metavar="DURATION|TIME",
        help="Runs that began within so long (30s, 15m, 12h, 30d), or since a time (2030-01-02T03:04:05Z).",
    )
    return lambda command: status(flow(since(command)))


def _since(written: str) -> timedelta | datetime:
    """Raises ValueError."""
    try:
        return parse_duration(written)
    except ValueError:
        pass
    try:
        time = datetime.fromisoformat(written)
    except ValueError:
        raise ValueError(
            f"{written!r} is neither a duration (30s, 15m, 12h, 30d) nor a time (2030-01-02T03:04:05Z)"
        ) from None
    if time.tzinfo is None:
        raise ValueError(f"{written!r} has no time zone: write {time:%Y-%m-%dT%H:%M:%S}Z for UTC, or +02:00 for Z")
    return in_utc("since", time)
