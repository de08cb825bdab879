"""`schedules list`: what the schedules of a running starter last did and do next, over HTTP."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import datetime
from functools import partial

import click
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from pgflow_starter.cli.busy import busy
from pgflow_starter.cli.options import checked, json_line, json_option, stdout_console
from pgflow_starter.cli.signals import handled
from pgflow_starter.cli.status import HERE, timeout_option
from pgflow_starter.cli.status_answer import Answer
from pgflow_starter.cli.status_url import StatusUrl, parse
from pgflow_starter.cli.telling import lasting, missed_ticks
from pgflow_starter.clock import SystemClock
from pgflow_starter.core.json_ready import json_ready
from pgflow_starter.core.state import ScheduleResult, ScheduleState

_COLOURS = {ScheduleResult.STARTED: "green", ScheduleResult.THERE: "green", ScheduleResult.FAILED: "red"}


@click.command("list", short_help="What the schedules of a running starter last did and do next.")
@click.argument("url", metavar="URL", envvar="PGFLOW_URL", default=HERE, callback=checked(parse))
@json_option
@timeout_option
def list_schedules(url: StatusUrl, as_json: bool, timeout: float) -> None:
    """Ask a running starter, at the URL of its page or of its /status, for its schedules: next tick, last tick and what
    became of it.

    Without URL, PGFLOW_URL counts, else port 8080 on loopback, where `run --http :8080` serves.

    \b
    Exit codes:
      0    the last tick of each was started, if there was one
      1    one was not, or the starter has ended
      2    bad usage
      3    no answer, or none of a starter
    \b
    Example:
      pgflow-starter schedules list
      pgflow-starter schedules list localhost:8080 --json | jq '.[] | select(.last_result == "failed")'
    """
    with handled() as signals, busy(f"asking {url}"):
        answer = signals.aside(partial(url.ask, timeout, SystemClock()))
    found = () if answer.status is None else answer.status.schedules
    if as_json:
        click.echo(json_line(json_ready(found) if answer.status is not None else answer.data))
    else:
        stdout_console().print(_picture(url, answer, found))
    sys.exit(int(answer.status is None or any(s.last_error is not None for s in found)))


def _picture(url: StatusUrl, answer: Answer, schedules: Sequence[ScheduleState]) -> RenderableType:
    if answer.status is None:
        return Text.assemble(f"{url}: ", ("the starter has ended", "red"), f", {answer.ended}")
    if not schedules:
        return Text(f"{url}: the starter has no schedules")
    problems = (Text(f"{s.name}: {s.last_error}", style="red") for s in schedules if s.last_error is not None)
    missed = (Text(f"{s.name}: {missed_ticks(s.missed)}", style="yellow") for s in schedules if s.missed is not None)
    return Group(schedule_table(schedules, answer.now), *problems, *missed)


def schedule_table(schedules: Sequence[ScheduleState], now: datetime) -> Table:
    """A row for each schedule; `now` counts for what is still to come."""
    table = Table("schedule", "cron", "next", "last due", "last result", "late", box=box.SIMPLE_HEAD, pad_edge=False)
    for s in schedules:
        table.add_row(
            Text(s.name if s.name == s.slug else f"{s.name} ({s.slug})"),
            Text(s.cron if s.timezone == "UTC" else f"{s.cron} {s.timezone}"),
            "never again" if s.next_at is None else f"in {lasting(now, s.next_at)}",
            "" if s.last_tick is None else f"{s.last_tick:%Y-%m-%d %H:%M:%S} UTC",
            "" if s.last_result is None else Text(str(s.last_result), style=_COLOURS[s.last_result]),
            "" if s.last_late is None else f"{s.last_late:.3f} s",
        )
    return table
