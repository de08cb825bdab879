"""Errors as one line with an exit code: 1, or one that says more. Never a traceback."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
import threading
from typing import Any, NoReturn

import click

from pgflow_starter.cli.signals import Interrupted
from pgflow_starter.core.text import one_line
from pgflow_starter.errors import PgflowError, StarterTerminated


class NoAnswer(click.ClickException):
    """Nobody answered, or not in time: what was asked for may be true or not."""

    exit_code = 3


class Unhealthy(click.ClickException):
    """Nothing that was asked for can be run here; the exit code is that of a service that is unavailable."""

    exit_code = 69


class GaveUp(click.ClickException):
    """The starter itself has ended: the exit code has this process's supervisor start it anew."""

    exit_code = 70


FLUSH_WITHIN = 0.25
"""Seconds in which somebody has to read what handlers printed, of a process that leaves at once."""


def leave_at_once(error: click.ClickException) -> NoReturn:
    """Show the error and end the process, without what its exit would wait for, of other libraries' perhaps."""
    _show(error)
    flusher = threading.Thread(target=sys.stdout.flush, name="pgflow-flush", daemon=True)
    flusher.start()
    flusher.join(FLUSH_WITHIN)
    os._exit(error.exit_code)


class FailuresInOneLine(click.Group):
    """A group whose commands may raise PgflowError: its message is for people already, and free of passwords.

    An output that cannot be written, to a disk that is full, is one line too.
    """

    def main(self, *args: Any, **extra: Any) -> Any:
        try:
            return super().main(*args, **extra)
        finally:
            _drop_what_is_left(sys.stderr)

    def invoke(self, ctx: click.Context) -> Any:
        _write_what_cannot_be_encoded()
        try:
            return super().invoke(ctx)
        except click.ClickException as error:
            _end(ctx, error)
        except PgflowError as error:
            text = one_line(str(error)) or type(error).__name__
            if isinstance(error, StarterTerminated):
                _end(ctx, GaveUp(f"{text}; the log above tells why, and starting this process anew is the remedy"))
            _end(ctx, click.ClickException(text))
        except KeyboardInterrupt:  # a module of the user's raised it
            _end(ctx, Interrupted())
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise  # click ends quietly then: the reader has had enough
            _drop_what_is_left(sys.stdout)
            where = "" if error.filename is None else f": {error.filename!r}"
            _end(ctx, click.ClickException(f"{one_line(error.strerror or str(error))}{where}"))


def _end(ctx: click.Context, error: click.ClickException) -> NoReturn:
    _show(error)
    ctx.exit(error.exit_code)


def _show(error: click.ClickException) -> None:
    """Its reader may be gone, a `tee` that Ctrl-C ended as well: the exit code says it all the same."""
    with contextlib.suppress(OSError):
        error.show()


def _write_what_cannot_be_encoded() -> None:
    """What an old terminal has no sign for is shown as an escape: names and reasons may hold anything."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _drop_what_is_left(stream: Any) -> None:
    """Else the interpreter's exit would try to write it once more, complain in its own words, and exit with 120."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        stream.flush()
        return
    with contextlib.suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
