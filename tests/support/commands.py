"""The command line in this process."""

from __future__ import annotations

from click.testing import CliRunner, Result

from pgflow_starter.cli.commands import commands

_DATABASE = ("PGFLOW_DSN", "PGHOST", "PGDATABASE", "PGUSER", "PGPASSWORD")


def call(*arguments: str, env: dict[str, str] | None = None, input: str | None = None) -> Result:
    """The command's exit code and output, without any database or address named by the environment."""
    cleared: dict[str, str | None] = dict.fromkeys((*_DATABASE, "PGFLOW_URL"))
    return CliRunner().invoke(commands, list(arguments), env={**cleared, **(env or {})}, input=input)
