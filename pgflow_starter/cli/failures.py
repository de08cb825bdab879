"""Errors as one line with an exit code: 1, or one that says more. Never a traceback."""

from __future__ import annotations

from typing import Any

import click

from pgflow_starter.core.state import one_line
from pgflow_starter.errors import PgflowError, StarterTerminated


class NoAnswer(click.ClickException):
    """Nobody answered, or not in time: what was asked for may be true or not."""

    exit_code = 3


class GaveUp(click.ClickException):
    """The starter itself has ended: the exit code tells who supervises this process to start it anew."""

    exit_code = 70


class Interrupted(click.ClickException):
    """Ctrl-C where there is something to say about it; the exit code is the one of shells."""

    exit_code = 130


class FailuresInOneLine(click.Group):
    """A group whose commands may raise PgflowError: its message is for people already, and free of passwords."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except PgflowError as error:
            raise failure(error) from None


def failure(error: PgflowError) -> click.ClickException:
    """The error as click shows it and exits with it."""
    text = one_line(str(error)) or type(error).__name__
    if isinstance(error, StarterTerminated):
        return GaveUp(f"{text}; the log above tells why, and starting this process anew is the remedy")
    return click.ClickException(text)
