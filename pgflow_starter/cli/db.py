"""`db install` and `db check`: pgmq and the pgflow core into a database, and what of it is there."""

from __future__ import annotations

import click
from rich import box
from rich.table import Table
from rich.text import Text

from pgflow_starter.cli.busy import busy
from pgflow_starter.cli.options import dsn_option, stdout_console
from pgflow_starter.postgres.install import install as install_into
from pgflow_starter.postgres.inventory import Inventory
from pgflow_starter.postgres.inventory import check as look_into


@click.group(short_help="Install pgmq and the pgflow core, or look what is there.")
def db() -> None:
    """Install pgmq and the pgflow core into a database, or look what is there."""


@db.command()
@dsn_option
def install(dsn: str) -> None:
    """Install what is missing, in one transaction; what is there stays as it is.

    The pgflow core is fetched by npm, once, and kept. Exit code 0: flows can run here; 1: nothing was changed, and why.

    \b
    Example:
      pgflow-starter db install --dsn 'host=localhost dbname=shop user=owner'
    """
    with busy("installing") as say:
        installed = install_into(dsn, progress=say)
    _refuse_if_missing(installed.inventory)


@db.command()
@dsn_option
def check(dsn: str) -> None:
    """Show what is there. Exit code 0: flows can run here; 1: something is missing, and how to get it.

    \b
    Example:
      pgflow-starter db check --dsn 'postgresql://worker@localhost/shop'
    """
    with busy("looking"):
        inventory = look_into(dsn)
    stdout_console().print(_table(inventory))
    for note in inventory.notes:
        click.echo(f"Note: {note}")
    _refuse_if_missing(inventory)


def _refuse_if_missing(inventory: Inventory) -> None:
    if not inventory.ok:
        raise click.ClickException("; ".join(inventory.missing))


def _table(inventory: Inventory) -> Table:
    pgmq = {"extension": f"extension {inventory.pgmq_version}", "sql": "plain SQL", "missing": "missing"}
    table = Table("part", "there", "features", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_row("PostgreSQL", inventory.server_version, "")
    table.add_row("pgmq", _judged(pgmq[inventory.pgmq], inventory.pgmq_problem), _features("pgmq", inventory))
    table.add_row("pgflow core", _judged(inventory.pgflow, inventory.pgflow_problem), _features("pgflow", inventory))
    return table


def _judged(found: str, problem: str | None) -> Text:
    return Text(
        found if problem is None or found in ("missing", "partial") else f"{found}, not usable",
        style="green" if problem is None else "red",
    )


def _features(schema: str, inventory: Inventory) -> str:
    names = [name.removeprefix(f"{schema}.") for name in inventory.features if name.startswith(f"{schema}.")]
    return ", ".join(names)
