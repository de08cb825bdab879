"""What several commands have: options, consoles, and lines on them."""

from __future__ import annotations

import json
import math
import shutil
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import click
from rich.console import Console
from rich.live import Live
from rich.text import Text

from pgflow_starter.clock import Clock
from pgflow_starter.config import Settings, bounds, settings_from
from pgflow_starter.errors import SetupError
from pgflow_starter.postgres.connections.conninfo import refuse_unreadable

_NARROWEST_TABLE = 120


class Seconds(click.FloatRange):
    """A number of seconds. Click itself has NaN lie within any bounds."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """As click asks for it."""
        seconds: float = super().convert(value, param, ctx)
        if not math.isfinite(seconds):
            self.fail(f"{value!r} is not a number of seconds", param, ctx)
        return seconds


def option(name: str, *names: str, **more: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """An option as click has it, which the variable PGFLOW_ and its name sets as well."""
    variable = f"PGFLOW_{name.strip('-').replace('-', '_').upper()}"
    return click.option(name, *names, envvar=variable, show_envvar=True, **more)


def flag(name: str, help: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """An option without a value."""
    return option(name, is_flag=True, help=help)


def checked(check: Callable[[Any], Any]) -> Callable[[click.Context, click.Parameter, Any], Any]:
    """A callback that makes of a value what `check` does; its ValueError or SetupError is bad usage."""

    def callback(_: click.Context, __: click.Parameter, value: Any) -> Any:
        try:
            return None if value is None else check(value)
        except (ValueError, SetupError) as error:
            raise click.BadParameter(str(error)) from None

    return callback


def _readable(dsn: str) -> str:
    refuse_unreadable(dsn)
    return dsn


dsn_option = option(
    "--dsn",
    default="",
    callback=checked(_readable),
    metavar="DSN",
    help="The database, as a libpq connection string or URI. Without it libpq's own PGHOST, PGDATABASE, PGUSER, ... "
    "count. Keep a password in PGPASSWORD, ~/.pgpass or PGFLOW_DSN: every user of a machine sees its command lines.",
)
"""`--dsn`; an empty string, which is libpq's own default, where nothing is given."""

json_option = option("--json", "as_json", is_flag=True, help="Print it as JSON instead.")


def seconds_option(name: str, default: float, help: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """An option for a while, up to an hour."""
    within = Seconds(0.1, 3600)
    return option(name, type=within, default=default, show_default=True, metavar="SECONDS", help=help)


def setting_option(written: str, name: str, help: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add an option for one of the settings of `start`, a number, with its default and its bounds."""
    default = getattr(Settings(), name)

    def setting(value: float) -> float:
        settings_from("", {name: value})
        return value

    return option(
        written,
        name,
        type=type(default),
        default=default,
        show_default=True,
        callback=checked(setting),
        help=f"{help} {bounds(name)}.",
    )


def json_line(value: Any) -> str:
    """The value as JSON that standard output can encode."""
    line = json.dumps(value, ensure_ascii=False)
    try:
        line.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(value)
    return line


def stdout_console() -> Console:
    """A console on standard output that shows texts as they are; wide enough for tables where it is no terminal."""
    console = Console(markup=False, highlight=False, emoji=False)
    if not console.is_terminal:
        console.width = max(_NARROWEST_TABLE, shutil.get_terminal_size().columns)
    return console


def stderr_console() -> Console:
    """A console on standard error, for what is said beside the output."""
    return Console(stderr=True, markup=False, highlight=False, emoji=False)


def live_on(console: Console) -> AbstractContextManager[Live | None]:
    """A picture there that changes in place, gone at its end beside the output; None where there can be none."""
    if not console.is_terminal or console.is_dumb_terminal:
        return nullcontext()
    # Beside the output nothing is redirected: what goes to standard output may go to a file.
    out = not console.stderr
    return Live(console=console, auto_refresh=False, transient=not out, redirect_stdout=out, redirect_stderr=out)


class TimedLines:
    """Lines on a console that keeps them all, each with the seconds since this was made."""

    def __init__(self, console: Console, clock: Clock) -> None:
        self._console = console
        self._clock = clock
        self._began = clock.monotonic()

    def say(self, line: str) -> None:
        """One more."""
        self._console.print(Text(f"{self._clock.monotonic() - self._began:6.2f} s  {line}"), soft_wrap=True)
