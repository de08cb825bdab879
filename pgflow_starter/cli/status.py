"""`status`: what a running starter says of itself, over HTTP."""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

import click

from pgflow_starter.cli.failures import NoAnswer
from pgflow_starter.cli.options import checked, flag, json_option, seconds_option
from pgflow_starter.cli.signals import handled
from pgflow_starter.cli.status_answer import Answer
from pgflow_starter.cli.status_url import StatusUrl, parse
from pgflow_starter.cli.status_view import lines, picture
from pgflow_starter.cli.watching import Telling
from pgflow_starter.clock import SystemClock

HERE = "127.0.0.1:8080"
"""Where a starter is asked when nothing says where."""


timeout_option = seconds_option("--timeout", 5.0, "Longest wait for an answer.")


@click.command(short_help="A table of what a running starter says of itself.")
@click.argument("url", metavar="URL", envvar="PGFLOW_URL", default=HERE, callback=checked(parse))
@json_option
@flag("--watch", "Ask again and again, until Ctrl-C: a live table on a terminal, a line for each change elsewhere.")
@seconds_option("--interval", 1.0, "From one question of --watch to the next.")
@timeout_option
def status(url: StatusUrl, as_json: bool, watch: bool, interval: float, timeout: float) -> None:
    """Ask a running starter, at the URL of its page or of its /status, where its modules and workers stand.

    Without URL, PGFLOW_URL counts, else port 8080 on loopback, where `run --http :8080` serves. A user and password in
    it are sent (Basic) and never shown.

    \b
    Exit codes, after --watch of the last answer:
      0    ready and healthy, and no worker is lost
      1    anything else that a starter said, that it has ended among it
      2    bad usage
      3    no answer, or none of a starter
      130  Ctrl-C before the answer, without --watch; 143: SIGTERM
    \b
    Example:
      pgflow-starter status
      pgflow-starter status https://shop.example/pgflow --watch
      pgflow-starter status localhost:8080 --json | jq '.modules[] | select(.status == "retrying")'
    """
    telling = Telling(partial(picture, url), partial(lines, url), _data, asked=str(url), outage=NoAnswer, patient=True)
    asking = partial(url.ask, timeout, SystemClock())
    with handled() as signals:
        if watch:
            answer = telling.watch(asking, signals, interval, as_json=as_json)
        else:
            answer = telling.once(asking, signals, as_json=as_json)
    sys.exit(NoAnswer.exit_code if answer is None else int(not answer.well))


def _data(answer: Answer) -> Any:
    return answer.data
