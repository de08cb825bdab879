"""A question to the person at the terminal, before something that nobody can undo."""

from __future__ import annotations

import os
import select
import signal
import sys

import click

from pgflow_starter.cli.signals import Interrupted
from pgflow_starter.clock import SLICE

_LINE = 4096
"""Bytes that a terminal keeps of one line, at most."""
_ANSWERS = {"y": True, "yes": True, "n": False, "no": False, "": False}


def make_sure(question: str, nothing_done: str) -> None:
    """Ask, and return for a yes. Blocks until there is an answer. For the main thread.

    `nothing_done` is what an error says of everything else: "nothing was deleted". Raises UsageError where standard
    input is no terminal, Interrupted for Ctrl-C and for its end, and ClickException for a no.
    """
    if sys.stdin is None or not sys.stdin.isatty():
        raise click.UsageError(f"{nothing_done}: standard input is no terminal where to ask; --yes does it unasked")
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ends the wait for an answer, and no more
    try:
        while (answer := _answer(question)) is None:
            click.echo("Error: y or n", err=True)
    except (KeyboardInterrupt, EOFError):
        click.echo(err=True)
        raise Interrupted(nothing_done) from None
    finally:
        signal.signal(signal.SIGINT, before)
    if not answer:
        raise click.ClickException(nothing_done)


def _answer(question: str) -> bool | None:
    """None for what is neither. Raises EOFError, and KeyboardInterrupt for Ctrl-C whenever that comes."""
    click.echo(f"{question} [y/N]: ", nl=False, err=True)
    terminal = sys.stdin.fileno()
    while not select.select([terminal], [], [], SLICE)[0]:
        pass  # a signal between the interpreter's last look and the wait is seen after a slice, not with the next key
    line = os.read(terminal, _LINE)
    if not line:
        raise EOFError
    return _ANSWERS.get(line.decode(errors="replace").strip().lower())
