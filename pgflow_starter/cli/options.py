"""What several commands have: the options `--dsn` and `--json`, and consoles."""

from __future__ import annotations

import json
import math
import shutil
import sys
from collections.abc import Callable
from typing import Any

import click
from rich.console import Console

from pgflow_starter.config import Settings, bounds, settings_from
from pgflow_starter.errors import SetupError
from pgflow_starter.postgres.connections.conninfo import refuse_unreadable

_NARROWEST_TABLE = 120

DSN_HELP = (
    "The database, as a libpq connection string or URI. Without it libpq's own PGHOST, PGDATABASE, PGUSER, ... count. "
    "Keep a password in PGPASSWORD, ~/.pgpass or PGFLOW_DSN: every user of a machine sees its command lines."
)


class Seconds(click.FloatRange):
    """A number of seconds. Click itself has NaN lie within any bounds."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """As click asks for it."""
        seconds: float = super().convert(value, param, ctx)
        if not math.isfinite(seconds):
            self.fail(f"{value!r} is not a number of seconds", param, ctx)
        return seconds


def dsn_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--dsn`; an empty string, which is libpq's own default, where nothing is given."""
    option = click.option(
        "--dsn", envvar="PGFLOW_DSN", show_envvar=True, default="", callback=_readable, metavar="DSN", help=DSN_HELP
    )
    return option(command)


def _readable(_: click.Context, __: click.Parameter, dsn: str) -> str:
    try:
        refuse_unreadable(dsn)
    except SetupError as error:
        raise click.BadParameter(str(error)) from None
    return dsn


def setting_option(flag: str, name: str, help: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add an option for one of the settings of `start`, a number, with its default and its bounds."""
    default = getattr(Settings(), name)

    def checked(_: click.Context, __: click.Parameter, value: float) -> float:
        try:
            settings_from("", {name: value})
        except ValueError as error:
            raise click.BadParameter(str(error)) from None
        return value

    return click.option(
        flag,
        name,
        type=type(default),
        default=default,
        show_default=True,
        envvar=f"PGFLOW_{flag.strip('-').replace('-', '_').upper()}",
        show_envvar=True,
        callback=checked,
        help=f"{help} {bounds(name)}.",
    )


def json_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--json`, as the parameter `as_json`."""
    option = click.option(
        "--json", "as_json", is_flag=True, envvar="PGFLOW_JSON", show_envvar=True, help="Print it as JSON instead."
    )
    return option(command)


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
