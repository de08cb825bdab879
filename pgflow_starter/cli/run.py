"""`run`: a starter in the foreground until a signal ends it."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial

import click

from pgflow_starter.app import Starter, start
from pgflow_starter.cli.failures import Interrupted
from pgflow_starter.cli.kinds import flows_and_jobs
from pgflow_starter.cli.options import dsn_option
from pgflow_starter.cli.signals import Signals, handled
from pgflow_starter.cli.telling import summary
from pgflow_starter.core.state import SignalStrategy
from pgflow_starter.errors import StarterStopped
from pgflow_starter.web import parse_address, serve

logger = logging.getLogger("pgflow_starter.cli")

LOOK_EVERY = 0.25
"""Seconds between two looks at the states."""


@click.command(short_help="Register modules and run their messages until a signal comes.")
@click.argument("modules", nargs=-1, required=True, metavar="MODULE...")
@dsn_option
@click.option(
    "--notify",
    is_flag=True,
    envvar="PGFLOW_NOTIFY",
    show_envvar=True,
    help="Be notified of messages rather than poll for them: sooner, for one more connection.",
)
@click.option(
    "--http",
    envvar="PGFLOW_HTTP",
    show_envvar=True,
    metavar="HOST:PORT",
    callback=lambda _, __, given: _address(given),
    help="Serve the probes /livez, /readyz and /healthz, the status and a page there; :PORT is on loopback, seen from "
    "this machine only.",
)
def run(modules: tuple[str, ...], dsn: str, notify: bool, http: str | None) -> None:
    """Register each MODULE, a dotted path to a flow or job, and run its messages until SIGTERM or SIGINT.

    Running tasks may end then; Ctrl-C meanwhile gives them back, to be run again, and leaves. The current folder is on
    the import path. States go to standard error; SIGUSR1 prints there what every thread does.

    \b
    Exit codes:
      0    stopped by a signal, and running tasks could end
      2    bad usage
      70   the starter itself gave up
      130  Ctrl-C while running tasks were to end

    \b
    Example:
      pgflow-starter run shop.flows:order shop.jobs:send_email --notify --dsn 'host=localhost dbname=shop'
      pgflow-starter run shop.flows:order --http 127.0.0.1:8080
    """
    _log_to_stderr()
    sys.path.insert(0, os.getcwd())
    with handled() as signals:
        flows, jobs = flows_and_jobs(modules)
        strategy = SignalStrategy.NOTIFY if notify else SignalStrategy.POLLING
        leaving: list[Callable[[], None]] = []
        signals.defer(partial(_each, leaving))
        try:
            starter = start(dsn, flows=flows, jobs=jobs, signal_strategy=str(strategy))
        except ValueError as error:
            raise click.UsageError(str(error)) from None
        leaving.append(partial(starter.stop, 0))
        with ExitStack() as ends:
            ends.callback(starter.stop)
            if http:
                server = ends.enter_context(serve(starter, http))
                logger.info("serving the page and the probes at %s", server.url)
                ends.callback(starter.stop)  # before the server: the probes say it while tasks end
            _watch(starter, signals)
            logger.info("stopping: running tasks may end; Ctrl-C leaves at once")
        if signals.again:
            raise Interrupted("left before the running tasks had ended: they are given back, to be run again")
        logger.info("stopped")


def _each(calls: Sequence[Callable[[], None]]) -> None:
    for call in calls:
        call()


def _address(given: str | None) -> str | None:
    try:
        return given and str(parse_address(given))
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def _watch(starter: Starter, signals: Signals) -> None:
    """Log each turn to ready until a signal comes; modules tell their own. Raises StarterTerminated."""
    was_ready, ended = False, False
    while not ended:
        ended = signals.wait(LOOK_EVERY)
        try:
            status = starter.status()
        except StarterStopped:  # by a second Ctrl-C, right behind the first
            return
        if status.ready and not was_ready:
            logger.log(logging.INFO if status.healthy else logging.ERROR, "%s", summary(status))
        was_ready = status.ready


def _log_to_stderr() -> None:
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)-7s %(name)s: %(message)s"
    )
    # They tell of each connection that fails; the starter tells it once, without a password.
    for name in ("psycopg", "pykka"):
        logging.getLogger(name).setLevel(logging.ERROR)
