"""`Duration`: how long, as options have it: `30` or `30s`, `15m`, `12h`, `30d`."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import click

_WRITTEN = re.compile(r"([0-9]+(?:\.[0-9]+)?)([smhd]?)", re.ASCII)
_UNITS = {"": "seconds", "s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def parse_duration(text: str) -> timedelta:
    """A number of seconds, minutes, hours or days, fractions among them. Raises ValueError."""
    written = _WRITTEN.fullmatch(text.strip())
    if written is None:
        raise ValueError(f"{text!r} is not a duration; write 30 or 30s (seconds), 15m, 12h or 30d")
    number, unit = written.groups()
    try:
        return timedelta(**{_UNITS[unit]: float(number)})
    except OverflowError:
        raise ValueError(f"{text!r} is too long a duration: at most {timedelta.max.days}d") from None


class Duration(click.ParamType):  # type: ignore[type-arg] # generic since click 8.4 only
    """An option's value that is a `timedelta`, not negative."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """As click asks for it."""
        if isinstance(value, timedelta):
            return value
        try:
            return parse_duration(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
