"""The group `pgflow-starter` with its commands."""

from __future__ import annotations

import click

from pgflow_starter import __version__
from pgflow_starter.cli import runs_changes
from pgflow_starter.cli.db import db
from pgflow_starter.cli.db_prune import prune
from pgflow_starter.cli.demo import demo
from pgflow_starter.cli.failures import FailuresInOneLine
from pgflow_starter.cli.flow_delete import delete
from pgflow_starter.cli.flow_graph import graph
from pgflow_starter.cli.flow_list import list_flows
from pgflow_starter.cli.flow_start import start
from pgflow_starter.cli.flow_sync import sync
from pgflow_starter.cli.run import run
from pgflow_starter.cli.runs_list import list_runs
from pgflow_starter.cli.runs_show import show
from pgflow_starter.cli.schedules import list_schedules
from pgflow_starter.cli.status import status


@click.group(cls=FailuresInOneLine, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__)
def commands() -> None:
    """Flow and job modules of pgflow, registered and run from PostgreSQL under supervision.

    \b
    Example, from nothing to running flows:
      pgflow-starter demo
      pgflow-starter db install --dsn 'host=localhost dbname=shop'
      pgflow-starter run shop.flows:order --notify --dsn 'host=localhost dbname=shop'
    """


@click.group(short_help="List a database's flows, draw one, start a run of it, change its options, delete it.")
def flow() -> None:
    """List a database's flows, draw one, start a run of it, change its options, delete it."""


@click.group(short_help="Show runs, with steps, attempts and errors; cancel them, start them anew, delete them.")
def runs() -> None:
    """Show runs, with steps, attempts and errors; cancel them, start them anew, delete them."""


@click.group(short_help="What the schedules of a running starter last did and do next.")
def schedules() -> None:
    """What the schedules of a running starter last did and do next."""


db.add_command(prune)
for command in (list_flows, graph, start, sync, delete):
    flow.add_command(command)
for command in (list_runs, show, runs_changes.cancel, runs_changes.rerun, runs_changes.delete):
    runs.add_command(command)
schedules.add_command(list_schedules)
for command in (demo, db, run, runs, flow, schedules, status):
    commands.add_command(command)
