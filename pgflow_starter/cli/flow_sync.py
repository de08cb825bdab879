"""`flow sync`: the options of the code into the flow that the database has."""

from __future__ import annotations

from functools import partial

import click

from pgflow_starter.cli.busy import busy
from pgflow_starter.cli.flow_graph import loaded
from pgflow_starter.cli.options import dsn_option, flag
from pgflow_starter.cli.signals import handled
from pgflow_starter.errors import UnknownFlowError
from pgflow_starter.postgres.setup.syncing import sync as sync_in
from pgflow_starter.postgres.stores.stored_flow import OptionChange

# By who reads which option when: pgflow's functions, and our workers.
_RETRIES = "max_attempts and base_delay count from a task's next failure on, in runs under way, too."
_KEPT = {
    "max_attempts": _RETRIES,
    "base_delay": _RETRIES,
    "timeout": "timeout: a process that runs keeps the one with which it registered; restart it. Messages that are"
    " worked on stay hidden for as long as they were.",
    "start_delay": "start_delay counts for steps that become ready from now on, in runs under way, too; what was sent"
    " already keeps its own.",
}


@click.command(short_help="Apply a flow's options in the code to the one in the database.")
@click.argument("module", metavar="MODULE")
@flag("--dry-run", "Print what would be changed, and change nothing.")
@dsn_option
def sync(module: str, dry_run: bool, dsn: str) -> None:
    """Give the stored flow the options that MODULE, a dotted path to a flow or job, has in the code.

    These are max_attempts, base_delay and timeout, of the flow and of each step, and a step's start_delay. Each
    change is printed, and what runs under way keep. Where steps, kinds or dependencies differ nothing is changed: that
    takes a new slug. The current folder is on the import path; what MODULE prints goes to standard error.

    Exit code 0: the options are those of the code; 1: nothing was changed, and why.

    \b
    Example:
      pgflow-starter flow sync shop.flows:order --dry-run --dsn 'host=localhost dbname=shop'
      pgflow-starter flow sync shop.flows:order --dsn 'host=localhost dbname=shop'
    """
    definition = loaded(module)
    try:
        with handled() as signals, busy("looking" if dry_run else "changing"):
            changes = signals.aside(partial(sync_in, dsn, definition, dry_run=dry_run))
    except UnknownFlowError as error:
        raise click.ClickException(f"{error}: a starter that has it brings it there, with its options") from None
    if not changes:
        click.echo(f"flow {definition.slug!r} has the options of the code already: nothing to change")
        return
    click.echo(f"flow {definition.slug!r}, {'to be changed' if dry_run else 'changed'}:")
    for change in changes:
        click.echo(f"  {_line(change)}")
    for note in dict.fromkeys(_KEPT[change.option] for change in changes):
        click.echo(note)


def _line(change: OptionChange) -> str:
    of = "" if change.step is None else f"step {change.step}: "
    none = "none" if change.option == "start_delay" else "the flow's"
    before, after = (none if value is None else value for value in (change.before, change.after))
    return f"{of}{change.option}: {before} -> {after}"
