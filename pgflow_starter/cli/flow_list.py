"""`flow list`: the flows and jobs that a database has."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import click
from rich import box
from rich.table import Table
from rich.text import Text

from pgflow_starter.cli.busy import busy
from pgflow_starter.cli.options import dsn_option, json_line, json_option, stdout_console
from pgflow_starter.cli.signals import handled
from pgflow_starter.cli.telling import visible
from pgflow_starter.core.json_ready import json_ready
from pgflow_starter.postgres.setup.flow_list import ListedFlow, ListedStep, stored_flows


@click.command("list", short_help="The flows and jobs that the database has, with their steps and options.")
@json_option
@dsn_option
def list_flows(as_json: bool, dsn: str) -> None:
    """Show the flows and jobs that a database has, as they are stored there: steps, max_attempts, base_delay, timeout.

    A step is followed by what it depends on, and by an asterisk where it is a map. As JSON it is an object: `flows`
    are they, with `slug`, `max_attempts`, `base_delay`, `timeout`, `created_at` and `steps`, each of these with `slug`,
    `kind` and `depends_on`. Steps may have options of their own, and conditions: `flow sync --dry-run` compares them
    with the code's.

    Exit code 0: they are shown, none may be; 1: they are not, and why.

    \b
    Example:
      pgflow-starter flow list --dsn 'host=localhost dbname=shop'
      pgflow-starter flow list --json | jq -r '.flows[].slug'
    """
    with handled() as signals, busy("looking"):
        flows = signals.aside(partial(stored_flows, dsn))
    if as_json:
        click.echo(json_line({"flows": json_ready(flows)}))
    else:
        stdout_console().print(_table(flows) if flows else "no flows")


def _table(flows: Sequence[ListedFlow]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("flow", no_wrap=True)
    table.add_column("attempts", justify="right")
    table.add_column("delay", justify="right")
    table.add_column("timeout", justify="right")
    table.add_column("steps", overflow="fold")
    for flow in flows:
        steps = ", ".join(_told(step) for step in flow.steps)
        numbers = (str(flow.max_attempts), f"{flow.base_delay} s", f"{flow.timeout} s")
        table.add_row(Text(visible(flow.slug)), *numbers, Text(visible(steps)))
    return table


def _told(step: ListedStep) -> str:
    after = f" ({', '.join(step.depends_on)})" if step.depends_on else ""
    return f"{step.slug}{'*' if step.kind == 'map' else ''}{after}"
