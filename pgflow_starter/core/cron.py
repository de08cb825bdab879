"""The ticks of a cron expression in a time zone, by `cronsim`, which is loaded where there is one to look at."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, tzinfo
from functools import partial
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from pgflow_starter.errors import MissingExtraError, installing

if TYPE_CHECKING:
    from cronsim import CronSim

Ticks = Callable[[datetime], Iterator[datetime]]
"""The ticks after a moment, in order, in UTC."""

_ANY = datetime(2026, 1, 1, tzinfo=UTC)


def ticks_of(cron: str, timezone: str) -> Ticks:
    """The ticks of an expression that has no problem. Raises MissingExtraError where cronsim is not installed."""
    require_cronsim()
    return partial(_ticks, cron, _zone(timezone))


def require_cronsim() -> None:
    """Raise MissingExtraError where it is not installed."""
    if _cronsim() is None:
        msg = f"schedules need cronsim, which is not installed: {installing('schedule')}"
        raise MissingExtraError(msg)


def cron_problem(cron: object) -> str | None:
    """What is wrong with it; whatever is between the fields is not looked at where cronsim is not installed."""
    if not isinstance(cron, str) or len(cron.split()) not in (5, 6):
        return f"cron must have five fields, or six, the seconds first, got {cron!r}"
    cronsim = _cronsim()
    if cronsim is None:
        return None
    from cronsim import CronSimError

    try:
        found = next(_ticks(cron, UTC, _ANY), None)
    except CronSimError as error:
        return f"cron {cron!r} is not valid: {str(error)[:1].lower()}{str(error)[1:]}"
    return f"cron {cron!r} is never due" if found is None else None


def timezone_problem(timezone: object) -> str | None:
    """What is wrong with the name of a time zone."""
    try:
        _zone(timezone)  # type: ignore[arg-type] # told below
    except (KeyError, ValueError, OSError, TypeError, AttributeError):
        return (
            f"timezone must be the name of one, such as 'Europe/Berlin', got {timezone!r}"
            " (where the system has none of them: pip install tzdata)"
        )
    return None


def _ticks(cron: str, zone: tzinfo, after: datetime) -> Iterator[datetime]:
    cronsim = _cronsim()
    assert cronsim is not None  # required before
    last = after
    # At the change to winter it begins with the first of two same times, and at that to summer times may fall together.
    for tick in cronsim(cron, after.astimezone(zone)):
        at = tick.astimezone(UTC)
        if at > last:
            last = at
            yield at


def _zone(timezone: str) -> tzinfo:
    return UTC if timezone == "UTC" else ZoneInfo(timezone)


def _cronsim() -> type[CronSim] | None:
    try:
        from cronsim import CronSim
    except ImportError:
        return None
    return CronSim
