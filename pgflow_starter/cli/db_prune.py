"""`db prune`: finished runs out of the database, after a question."""

from __future__ import annotations

from contextlib import closing
from datetime import timedelta
from functools import partial

import click

from pgflow_starter.cli.asking import make_sure
from pgflow_starter.cli.busy import busy
from pgflow_starter.cli.durations import Duration
from pgflow_starter.cli.options import checked, dsn_option, flag, option
from pgflow_starter.cli.signals import Interrupted, handled
from pgflow_starter.clock import SystemClock
from pgflow_starter.core.retention import Retention, retention_of
from pgflow_starter.postgres.client.calls import Calls
from pgflow_starter.postgres.client.removals import count_due, prune_runs
from pgflow_starter.postgres.connections.database import Database


def _bounded(older_than: timedelta) -> timedelta:
    retention_of(older_than)
    return older_than


@click.command(short_help="Delete finished runs that are old, with their messages.")
@option(
    "--older-than",
    type=Duration(),
    callback=checked(_bounded),
    required=True,
    metavar="DURATION",
    help="Runs that ended longer ago than this go: 30d, 12h, 15m, 30s.",
)
@option(
    "--failed-older-than",
    type=Duration(),
    callback=checked(_bounded),
    metavar="DURATION",
    help="The same for runs that failed; without it the same time.",
)
@flag("--dry-run", "Say how many runs would be deleted; change nothing.")
@flag("--yes", "Do not ask.")
@dsn_option
def prune(older_than: timedelta, failed_older_than: timedelta | None, dry_run: bool, yes: bool, dsn: str) -> None:
    """Delete the runs that ended longer ago, with their steps, tasks and messages, the archived ones too.

    They are counted first, and then it asks, or, where standard input is no terminal, wants --yes. Batch by batch, each
    a transaction: after Ctrl-C the same command goes on with the rest. Runs that are not finished stay, however old,
    and what somebody has locked. The rows of workers that were not heard of for as long go, too.

    \b
    Exit codes:
      0    they are deleted, or there were none
      1    not all of them are, and why: another process is at it, say
      2    bad usage, or nobody to ask
      130  Ctrl-C
    \b
    Example:
      pgflow-starter db prune --older-than 30d --failed-older-than 90d --dsn 'host=localhost dbname=shop'
      pgflow-starter db prune --older-than 30d --yes --dsn 'host=localhost dbname=shop'
    """
    retention = Retention(older_than, older_than if failed_older_than is None else failed_older_than)
    with closing(Database(dsn, pool_size=1, clock=SystemClock())) as database:
        calls = Calls(database)
        with handled() as signals, busy("counting"):
            found = signals.aside(partial(count_due, calls, retention))
        runs = ", ".join(f"{count} {status}" for status, count in sorted(found.items()))
        click.echo(f"{_runs(sum(found.values()))} to delete{runs and f': {runs}'}")
        if dry_run:
            return
        if found and not yes:
            make_sure("Delete them, for good?", "nothing was deleted")
        _prune(calls, retention, sum(found.values()))


def _prune(calls: Calls, retention: Retention, due: int) -> None:
    gone = [0]

    def told(count: int) -> None:
        gone[0] += count

    try:
        with handled() as signals, busy(lambda: f"deleting, {gone[0]} of {due}"):
            pruned = signals.aside(partial(prune_runs, calls, retention, None, told))
    except Interrupted as error:
        raise Interrupted(
            f"{_runs(gone[0])} deleted so far, and perhaps one batch more: the same command goes on with the rest",
            error.exit_code - 128,
        ) from None
    click.echo(f"{_runs(pruned.deleted)} deleted")
    if pruned.left is None:
        raise click.ClickException("another process deletes old runs of this database already: try again later")
    if pruned.left:
        raise click.ClickException(f"{_runs(pruned.left)} left, which somebody has locked: try again later")


def _runs(count: int) -> str:
    return f"{count} run{'' if count == 1 else 's'}"
