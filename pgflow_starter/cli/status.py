"""`status`: what a running starter says of itself, over HTTP."""

from __future__ import annotations

import sys
import threading

import click

from pgflow_starter.cli.answer import Answer
from pgflow_starter.cli.busy import busy
from pgflow_starter.cli.failures import NoAnswer
from pgflow_starter.cli.options import json_line, json_option, stdout_console
from pgflow_starter.cli.status_url import StatusUrl, parse
from pgflow_starter.cli.status_view import picture, status_view
from pgflow_starter.clock import SystemClock


def _url(_: click.Context, __: click.Parameter, given: str) -> StatusUrl:
    try:
        return parse(given)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@click.command(short_help="A table of what a running starter says of itself.")
@click.argument("url", metavar="URL", envvar="PGFLOW_URL", callback=_url)
@json_option
@click.option(
    "--watch",
    is_flag=True,
    envvar="PGFLOW_WATCH",
    show_envvar=True,
    help="Ask again and again, until Ctrl-C: a live table on a terminal, a line for each change elsewhere.",
)
@click.option(
    "--interval",
    type=click.FloatRange(0.1, 3600),
    default=1.0,
    show_default=True,
    envvar="PGFLOW_INTERVAL",
    show_envvar=True,
    metavar="SECONDS",
    help="From one question of --watch to the next.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(0.1, 3600),
    default=5.0,
    show_default=True,
    envvar="PGFLOW_TIMEOUT",
    show_envvar=True,
    metavar="SECONDS",
    help="Longest wait for an answer.",
)
def status(url: StatusUrl, as_json: bool, watch: bool, interval: float, timeout: float) -> None:
    """Ask a running starter, at the URL of its page or of its /status, where its modules and workers stand.

    Without URL, PGFLOW_URL counts. A user and password in it are sent (Basic) and never shown.

    \b
    Exit codes, after --watch of the last answer:
      0    ready and healthy, and no worker is lost
      1    anything else that a starter said, that it has ended among it
      2    bad usage
      3    no answer, or none of a starter
      130  Ctrl-C before the answer, without --watch
    \b
    Example:
      pgflow-starter status localhost:8080
      pgflow-starter status https://shop.example/pgflow --watch
      pgflow-starter status localhost:8080 --json | jq '.modules[] | select(.status == "retrying")'
    """
    code = _watch(url, interval, timeout, as_json) if watch else _once(url, timeout, as_json)
    sys.exit(code)


def _once(url: StatusUrl, timeout: float, as_json: bool) -> int:
    with busy(f"asking {url}"):
        answer = url.ask(timeout, SystemClock())
    if as_json:
        _print_json(answer)
    else:
        stdout_console().print(picture(url, answer))
    return _code(answer)


def _watch(url: StatusUrl, interval: float, timeout: float, as_json: bool) -> int:
    clock, pause, code = SystemClock(), threading.Event(), NoAnswer.exit_code
    try:
        with status_view(url, stdout_console(), clock) as view:
            while True:
                try:
                    answer = url.ask(timeout, clock)
                except NoAnswer as error:
                    code = error.exit_code
                    click.echo(error.message, err=True) if as_json else view.away(error.message)
                else:
                    code = _code(answer)
                    _print_json(answer) if as_json else view.show(answer)
                pause.wait(interval)
    except KeyboardInterrupt:
        return code


def _print_json(answer: Answer) -> None:
    click.echo(json_line(answer.data))


def _code(answer: Answer) -> int:
    return 0 if answer.well else 1
