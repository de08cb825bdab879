"""`db install`, `upgrade`, `check`, `grant`: pgmq and the pgflow core into a database, what is there, and rights."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click
from rich import box
from rich.table import Table
from rich.text import Text

from pgflow_starter.cli.busy import busy
from pgflow_starter.cli.options import dsn_option, flag, option, stdout_console
from pgflow_starter.cli.signals import Interrupted, handled
from pgflow_starter.postgres.setup.grants import grants
from pgflow_starter.postgres.setup.install import install as install_into
from pgflow_starter.postgres.setup.inventory import Inventory
from pgflow_starter.postgres.setup.inventory import check as look_into
from pgflow_starter.postgres.setup.upgrade import upgrade as bring_up


def _core_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Which core."""
    version = option("--core-version", metavar="VERSION", help="The core of this version, from npm, as in 0.14.1.")
    folder = option(
        "--core-dir",
        type=click.Path(path_type=Path),
        metavar="DIR",
        help="The core's migrations in this folder, a Supabase project's supabase/migrations say: pgflow's alone.",
    )
    return version(folder(command))


def _one_of(core_version: str | None, core_dir: Path | None) -> None:
    if core_version is not None and core_dir is not None:
        raise click.UsageError("give --core-version or --core-dir, not both")


@click.group(short_help="Install or upgrade pgmq and the pgflow core, look what is there, grant rights, prune runs.")
def db() -> None:
    """Install pgmq and the pgflow core, upgrade the core, look what is there, grant rights on it, delete old runs."""


@db.command()
@flag(
    "--accept",
    "Take pgmq's SQL as the installed Python package pgmq has it, though nobody has tried it here: read it first.",
)
@_core_options
@dsn_option
def install(accept: bool, core_version: str | None, core_dir: Path | None, dsn: str) -> None:
    """Install what is missing, in one transaction; what is there stays as it is.

    The pgflow core is fetched by npm, once, and kept. Unless you name another, nothing is installed of it and of pgmq
    but what was tried.
    Exit code 0: flows can run here; 1: nothing was changed, and why.

    \b
    Example:
      pgflow-starter db install --dsn 'host=localhost dbname=shop user=owner'
    """
    _one_of(core_version, core_dir)
    installing = partial(install_into, dsn, accept=accept, core_version=core_version, core_dir=core_dir)
    with handled() as signals, busy("installing") as say:
        inventory = signals.aside(partial(installing, progress=say)).inventory
    if not inventory.ok:
        raise click.ClickException("; ".join(inventory.missing))


@db.command()
@_core_options
@flag("--dry-run", "Say what would be done, and what keeps it from being done; change nothing.")
@dsn_option
def upgrade(core_version: str | None, core_dir: Path | None, dry_run: bool, dsn: str) -> None:
    """Apply the core's migrations that the database has not had, in one transaction: all of them or none.

    Those of npm's newest version, unless you name another, or a folder. What is Supabase's and not there is left out
    and named. Exit code 0: the database has that core; 1: nothing was changed, and why.

    \b
    Example:
      pgflow-starter db upgrade --core-version 0.14.1 --dry-run --dsn 'host=localhost dbname=shop user=owner'
      pgflow-starter db upgrade --core-dir supabase/migrations --dsn 'host=localhost dbname=shop user=owner'
    """
    _one_of(core_version, core_dir)
    upgrading = partial(bring_up, dsn, core_version=core_version, core_dir=core_dir, dry_run=dry_run)
    try:
        with handled() as signals, busy("looking" if dry_run else "upgrading") as say:
            signals.aside(partial(upgrading, progress=say))
    except Interrupted as error:
        what = "nothing was changed" if dry_run else "the core is upgraded, or as it was: the same command again tells"
        raise Interrupted(what, error.exit_code - 128) from None


@db.command()
@dsn_option
def check(dsn: str) -> None:
    """Show what is there, and whether flows can run here as the role that asks.

    Exit code 0: they can; 1: something is missing, a part or a right, and how to get it. That the role cannot make new
    flows, or have a queue notify, is a note only: it can work on those that are there.

    \b
    Example:
      pgflow-starter db check --dsn 'postgresql://worker@localhost/shop'
    """
    with handled() as signals, busy("looking"):
        inventory = signals.aside(partial(look_into, dsn))
    stdout_console().print(_table(inventory))
    for note in inventory.notes:
        click.echo(f"Note: {note}")
    if not inventory.ok:
        for problem in inventory.rights_problems:
            click.echo(f"- {problem}")
        who = "" if inventory.role is None else f" as role {inventory.role!r}"
        why = "the rights named above are missing" if inventory.rights_problems else "; ".join(inventory.missing)
        raise click.ClickException(f"flows cannot run here{who}: {why}")
    click.echo(f"flows can run here as role {inventory.role!r}")


@db.command()
@click.argument("role")
@flag("--apply", "Run it, too: all of it or nothing.")
@flag(
    "--work-only",
    "Without making flows and having queues notify, which let the role have code of its own run by others.",
)
@flag("--prune", "With deleting finished runs, for a starter with a retention, `db prune` and the client's delete.")
@dsn_option
def grant(role: str, apply: bool, work_only: bool, prune: bool, dsn: str) -> None:
    """Print the least rights with which a role can run flows, as SQL.

    Those of queues are for the queues that are there now. Doing it again does no harm; --apply grants only what is
    missing.

    \b
    Example:
      pgflow-starter db grant worker --dsn 'postgresql://owner@localhost/shop' > grants.sql
      pgflow-starter db grant worker --apply --dsn 'postgresql://owner@localhost/shop'
    """
    with handled() as signals, busy("granting" if apply else "looking"):
        script = signals.aside(partial(grants, dsn, role, apply=apply, work_only=work_only, prune=prune))
    click.echo(script)


def _table(inventory: Inventory) -> Table:
    concluded = "" if inventory.pgmq_problem else " (concluded: 1.5 or later)"
    pgmq = {
        "extension": f"extension {inventory.pgmq_version}",
        "sql": f"plain SQL{concluded}",
        "missing": "missing",
    }
    core = inventory.pgflow if inventory.core is None else f"{inventory.pgflow} (concluded: {inventory.core})"
    table = Table("part", "there", "features", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_row("PostgreSQL", inventory.server_version, "")
    table.add_row("pgmq", _judged(pgmq[inventory.pgmq], inventory.pgmq_problem), _features("pgmq", inventory))
    table.add_row("pgflow core", _judged(core, inventory.pgflow_problem), _features("pgflow", inventory))
    if inventory.pgflow == "present":
        table.add_row("last migration", inventory.last_migration or "unknown", "")
    if inventory.fast_lane is not None:
        table.add_row("fast lane", inventory.fast_lane, "")
    return table


def _judged(found: str, problem: str | None) -> Text:
    return Text(
        found if problem is None or found in ("missing", "partial") else f"{found}, not usable",
        style="green" if problem is None else "red",
    )


def _features(schema: str, inventory: Inventory) -> str:
    prefix = f"{schema}."
    return ", ".join(name.removeprefix(prefix) for name in inventory.features if name.startswith(prefix))
