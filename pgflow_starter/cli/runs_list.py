"""`runs list`: the latest runs, or those that are asked for, a page at a time."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

import click
from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from pgflow_starter.cli.changes import Line
from pgflow_starter.cli.clients import client_on
from pgflow_starter.cli.options import dsn_option, flag, json_option, option, seconds_option
from pgflow_starter.cli.runs_filter import filter_options
from pgflow_starter.cli.signals import handled
from pgflow_starter.cli.telling import RUN_COLOURS, lasting, visible
from pgflow_starter.cli.watching import Telling
from pgflow_starter.clock import SystemClock
from pgflow_starter.core.json_ready import json_ready
from pgflow_starter.core.run_summary import RunSummary
from pgflow_starter.core.runs import RUN_STATUSES, RunStatus
from pgflow_starter.postgres.client.listings import MOST

Page = Sequence[RunSummary]


@click.command("list", short_help="The latest runs, or those of a status, of a flow, since a time.")
@filter_options(RUN_STATUSES)
@option(
    "--limit", type=click.IntRange(1, MOST), default=20, show_default=True, metavar="NUMBER", help="So many at most."
)
@option("--after", type=click.UUID, metavar="RUN_ID", help="Go on after this run, the last of the page before.")
@json_option
@flag("--watch", "Ask again and again, until Ctrl-C: a live table on a terminal, a line for each change elsewhere.")
@seconds_option("--interval", 1.0, "From one question of --watch to the next.")
@dsn_option
def list_runs(
    status: RunStatus | None,
    flow: str | None,
    since: datetime | timedelta | None,
    limit: int,
    after: UUID | None,
    as_json: bool,
    watch: bool,
    interval: float,
    dsn: str,
) -> None:
    """Show the runs of a database, the newest first.

    As JSON it is an object: `runs` are they, with `id`, `flow_slug`, `status`, `started_at`, `ended_at`, `steps` and
    `notes`; `after` is what --after takes for the next page, null where this is the last. pgflow has no index on when
    runs began: of a database with millions the question may take longer than it is given (10 s).

    \b
    Exit codes, after --watch of the last answer:
      0    they are shown; none may be one of them
      1    they are not, and why
      2    bad usage
      130  Ctrl-C before the first answer
    \b
    Example:
      pgflow-starter runs list --dsn 'host=localhost dbname=shop'
      pgflow-starter runs list --status failed --flow order --since 12h --watch
      pgflow-starter runs list --status failed --limit 500 --json | jq -r '.runs[].id'
    """
    telling = Telling(_picture, _lines, partial(_data, limit=limit))
    with handled() as signals, client_on(dsn) as client:
        asking = partial(client.runs, status=status, flow=flow, since=since, limit=limit, after=after)
        if watch:
            sys.exit(int(telling.watch(asking, signals, interval, as_json=as_json) is None))
        page = telling.once(asking, signals, as_json=as_json)
    if len(page) == limit and not as_json:
        click.echo(f"there may be more: --after {page[-1].id}", err=True)


def _picture(page: Page) -> RenderableType:
    if not page:
        return Text("no runs")
    now = SystemClock().now()
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("run", no_wrap=True)
    table.add_column("status", no_wrap=True)
    table.add_column("age", no_wrap=True, justify="right")
    table.add_column("took", no_wrap=True, justify="right")
    table.add_column("flow", overflow="fold")
    for run in page:
        began, ended = run.started_at, run.ended_at
        table.add_row(
            str(run.id),
            Text(run.status, style=RUN_COLOURS.get(run.status, "")),
            "" if began is None else lasting(began, now),
            "" if began is None or ended is None else lasting(began, ended),
            Text(visible(run.flow_slug)),
        )
    return table


def _lines(page: Page) -> Iterator[Line]:
    """The newest last, as in a log."""
    return (Line(str(run.id), f"{run.id} {run.status} {visible(run.flow_slug)}") for run in reversed(page))


def _data(page: Page, limit: int) -> dict[str, Any]:
    return {"runs": [json_ready(run) for run in page], "after": str(page[-1].id) if len(page) == limit else None}
