"""`manage.py pgflow`: the commands of `pgflow-starter`, on a database of DATABASES."""

from __future__ import annotations

import argparse
from copy import copy
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError

from pgflow_starter.django.conf import configured, conninfo
from pgflow_starter.django.discovery import discovered
from pgflow_starter.django.middleware import connections_closed
from pgflow_starter.errors import MissingExtraError, installing

try:
    import click

    from pgflow_starter.cli.commands import commands
except ModuleNotFoundError as error:  # the site needs neither
    missing = (error.name or "").partition(".")[0]
    if missing not in ("click", "rich"):
        raise
    raise MissingExtraError(f"manage.py pgflow needs {missing}: {installing('django')}") from None


class Command(BaseCommand):
    """As Django asks for it."""

    help = (
        f"The commands of pgflow-starter: {', '.join(name for name in commands.commands if name != 'demo')}."
        " COMMAND --help tells the options of each. The database is the one that the setting PGFLOW names, unless --dsn"
        " or PGFLOW_DSN is given; run without MODULE runs what is in the flows.py of the installed apps."
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """As Django asks for it."""
        parser.add_argument("--database", metavar="ALIAS", help="Another alias of DATABASES than PGFLOW names.")
        parser.add_argument("command", metavar="COMMAND", nargs=argparse.REMAINDER)

    def handle(self, *_: Any, database: str | None, command: list[str], **__: Any) -> None:
        """As Django asks for it. Ends the process with the command's exit code where that is not 0."""
        try:
            start, dsn = dict(configured().start), conninfo(database)
        except ImproperlyConfigured as error:
            raise CommandError(str(error)) from None
        start["notify"] = start.pop("signal_strategy", "polling") == "notify"
        start["middleware"] = (connections_closed, *start["middleware"])
        group = _group()
        options = {param.name for param in group.commands["run"].params}
        defaults = _with_dsn(group, dsn)
        defaults["run"].update({name: value for name, value in start.items() if name in options})
        others = {name: value for name, value in start.items() if name not in options}
        try:
            group.main(command, prog_name="manage.py pgflow", default_map=defaults, obj=others)
        except SystemExit as end:
            if end.code:
                raise


def _group() -> click.Group:
    """The commands; `run` without a module runs what was discovered."""
    group, run = copy(commands), copy(commands.commands["run"])
    found = click.Argument(["modules"], nargs=-1, metavar="[MODULE]...", callback=_or_found)
    run.params = [found if param.name == "modules" else param for param in run.params]
    group.commands = {name: run if name == "run" else command for name, command in commands.commands.items()}
    del group.commands["demo"]
    return group


def _or_found(_: click.Context, __: click.Parameter, given: tuple[str, ...]) -> tuple[str, ...]:
    paths = given or discovered()
    if not paths:
        raise click.UsageError("no flows.py of an installed app has a Flow, a job or a Schedule: name a MODULE")
    return paths


def _with_dsn(command: click.Command, dsn: str) -> dict[str, Any]:
    """For click: what each command's `--dsn` is where nobody gives one."""
    if isinstance(command, click.Group):
        return {name: _with_dsn(each, dsn) for name, each in command.commands.items()}
    return {"dsn": dsn} if any(param.name == "dsn" for param in command.params) else {}
