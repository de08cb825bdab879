"""The command line in this process."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Iterator
from contextlib import contextmanager

import click
from click.testing import CliRunner, Result

from pgflow_starter.cli.commands import commands

_DATABASE = ("PGFLOW_DSN", "PGHOST", "PGDATABASE", "PGUSER", "PGPASSWORD")


def call(*arguments: str, env: dict[str, str] | None = None, input: str | None = None) -> Result:
    """The command's exit code and output, without any database or address named by the environment."""
    cleared: dict[str, str | None] = dict.fromkeys((*_DATABASE, "PGFLOW_URL"))
    with logging_as_it_was():
        return CliRunner().invoke(commands, list(arguments), env={**cleared, **(env or {})}, input=input)


@contextmanager
def logging_as_it_was() -> Iterator[None]:
    """A command's process is its own, and it sets up logging as it likes; this one has other tests."""
    loggers = [logging.getLogger(name) for name in ("pgflow_starter", "pgflow_starter.modules", "psycopg")]
    before = [(logger, list(logger.handlers), logger.level) for logger in loggers]
    yield
    for logger, handlers, level in before:
        logger.handlers[:] = handlers
        logger.setLevel(level)


def check(line: str) -> click.Context:
    """What the command line `pgflow-starter ...` says, without doing it. Raises click.UsageError for bad usage."""
    program, *words = shlex.split(line.partition(" | ")[0].partition(" > ")[0])
    assert program == "pgflow-starter", line
    command: click.Command = commands
    context = click.Context(commands, info_name=program)
    while isinstance(command, click.Group):
        command = command.commands[words.pop(0)]
    return command.make_context(command.name, words, parent=context)
