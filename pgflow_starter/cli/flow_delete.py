"""`flow delete`: a flow with all that the database has of it, after a question."""

from __future__ import annotations

from functools import partial

import click

from pgflow_starter.cli.asking import make_sure
from pgflow_starter.cli.busy import busy
from pgflow_starter.cli.options import dsn_option, flag
from pgflow_starter.cli.signals import Interrupted, handled
from pgflow_starter.postgres.setup.deleting import Holdings, delete_flow, holdings


@click.command(short_help="Delete a flow from the database, with its runs, queue and archive.")
@click.argument("slug", metavar="SLUG")
@flag("--yes", "Do not ask.")
@dsn_option
def delete(slug: str, yes: bool, dsn: str) -> None:
    """Delete the flow or job SLUG from the database, with all of its runs, its queue and the archive of that.

    What there is of it is counted first, with the workers that have it, and then it asks, or, where standard input is
    no terminal, wants --yes. A starter whose code still has the flow makes it anew, without a run and as its code has
    it, with its next poll: stop it first, or deploy code without the flow. What is worked on meanwhile comes to
    nothing.

    \b
    Exit codes:
      0    it is deleted
      1    it is not, and why
      2    bad usage, or nobody to ask
      130  Ctrl-C
    \b
    Example:
      pgflow-starter flow delete order --dsn 'host=localhost dbname=shop'
      pgflow-starter flow delete order --yes --dsn 'host=localhost dbname=shop'
    """
    with handled() as signals, busy("counting"):
        found = signals.aside(partial(holdings, dsn, slug))
    _tell(slug, found)
    if not yes:
        make_sure(f"Delete flow {slug!r} with all of this, for good?", "nothing was deleted")
    try:
        with handled() as signals, busy("deleting"):
            runs = signals.aside(partial(delete_flow, dsn, slug))
    except Interrupted as error:
        raise Interrupted(
            f"flow {slug!r} may be deleted or not: the same command again tells", error.exit_code - 128
        ) from None
    rest = "its messages alone out of the queue and the archive" if found.namesakes else "its queue and its archive"
    click.echo(f"flow {slug!r} is deleted, with {_count(runs, 'run')}, {rest}")


def _tell(slug: str, found: Holdings) -> None:
    runs = ", ".join(f"{count} {status}" for status, count in found.runs.items())
    click.echo(f"flow {slug!r} in database {found.database!r}, {_count(found.steps, 'step')}")
    click.echo(f"  runs:     {runs or 'none'}")
    click.echo(f"  messages: {found.queued} in the queue, {found.archived} in the archive")
    if found.dependents:
        dependents = ", ".join(
            f"{'rows that this role may not count' if count is None else _count(count, 'row')} of {table}"
            for table, count in found.dependents.items()
        )
        click.echo(f"  cascade:  {dependents}")
    click.echo(f"  workers:  {len(found.workers) or 'none'} alive")
    for worker in found.workers:
        click.echo(f"    {worker.told}")
    if found.namesakes:
        names = ", ".join(repr(name) for name in found.namesakes)
        _warn(f"the queue stays, with the messages of others: {names}, for pgmq knows no capitals")
    if found.unfinished:
        _warn(f"{_count(found.unfinished, 'run')} not finished, which nobody will finish")
    if any(worker.ours for worker in found.workers):
        _warn(
            "a starter that is alive makes the flow anew, without a run and as its code has it, with its next poll:"
            " stop it first, or deploy code without the flow"
        )


def _warn(words: str) -> None:
    click.echo(f"Warning: {words}", err=True)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
