"""The group `flow`: what a single flow or job looks like, and a run of it."""

from __future__ import annotations

import click

from pgflow_starter.cli.flow_graph import graph
from pgflow_starter.cli.flow_start import start


@click.group(short_help="Draw a flow's graph, or start a run of it.")
def flow() -> None:
    """Draw a flow's graph, or start a run of it."""


flow.add_command(graph)
flow.add_command(start)
