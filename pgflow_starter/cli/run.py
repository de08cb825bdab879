"""`run`: a starter in the foreground until a signal ends it."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from math import inf
from typing import Any

import click

from pgflow_starter import JsonFormatter
from pgflow_starter.cli.failures import Unhealthy, leave_at_once
from pgflow_starter.cli.kinds import named
from pgflow_starter.cli.options import Seconds, checked, dsn_option, flag, option, setting_option
from pgflow_starter.cli.signals import Interrupted, Signals, handled
from pgflow_starter.cli.telling import summary
from pgflow_starter.clock import SystemClock
from pgflow_starter.core.phases import SignalStrategy
from pgflow_starter.core.state import ModuleStatus, StarterStatus
from pgflow_starter.errors import StarterStopped
from pgflow_starter.starter.handle import Starter
from pgflow_starter.starter.start import start
from pgflow_starter.web import parse_address, serve
from pgflow_starter.web.looks import Shown

logger = logging.getLogger("pgflow_starter.cli")

LOOK_EVERY = 0.25
"""Seconds between two looks at the states."""

BRISK = 0.0001
"""Seconds that a thread may keep the interpreter when the process is to end at once."""

_TEXT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"


@click.command(short_help="Register modules and run their messages until a signal comes.")
@click.argument("modules", nargs=-1, required=True, metavar="MODULE...")
@dsn_option
@flag("--notify", "Be notified of messages rather than poll for them: sooner, for one more connection.")
@option(
    "--http",
    metavar="HOST:PORT",
    callback=checked(lambda given: given and str(parse_address(given))),
    help="Serve the probes /livez, /readyz and /healthz, the status and a page there; :PORT is on loopback, seen from "
    "this machine only.",
)
@option(
    "--metrics",
    metavar="HOST:PORT",
    callback=checked(lambda given: given and str(parse_address(given))),
    help="Serve metrics for Prometheus there, at /metrics; needs the extra prometheus. With it no other OpenTelemetry "
    "provider is told any.",
)
@flag(
    "--actions",
    "Have the page of --http act: try a module at once, cancel runs and run them again. Whoever reaches it may.",
)
@option(
    "--trace-url",
    metavar="URL",
    callback=checked(lambda given: Shown(given).trace_url),
    help="Where the page of --http finds the trace of a run: an address with {trace_id}, or {run_id}, in it.",
)
@setting_option("--concurrency", "max_concurrency", "Tasks at a time of each module, unless its own option says else.")
@setting_option("--pool-size", "pool_size", "Connections to the database at most, the one for --notify apart.")
@setting_option("--shutdown-timeout", "shutdown_timeout", "Seconds that running tasks may go on after a signal.")
@option(
    "--require-healthy",
    type=Seconds(0, min_open=True),
    metavar="SECONDS",
    help="End with exit code 69 when no module has succeeded by then.",
)
@option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"], case_sensitive=False),
    default="info",
    show_default=True,
    help="What is logged to standard error: this and what is worse.",
)
@flag("--log-json", "Log one line of JSON for each record, with its fields.")
@click.pass_obj
def run(
    more: Mapping[str, Any] | None,  # settings without an option, of a program that has this command in its own
    /,
    modules: tuple[str, ...],
    dsn: str,
    notify: bool,
    http: str | None,
    metrics: str | None,
    actions: bool,
    trace_url: str | None,
    require_healthy: float | None,
    log_level: str,
    log_json: bool,
    **settings: Any,
) -> None:
    """Register each MODULE, a dotted path to a flow or job, and run its messages until SIGTERM or SIGINT. A path may
    also lead to a Schedule, which is kept here then.

    Running tasks may end then; Ctrl-C meanwhile gives them back, to be run again, and leaves. The current folder is on
    the import path. States go to standard error; SIGUSR1 prints there what every thread does. A module that fails for
    good, a name that is misspelt say, ends nothing: the others run, and --require-healthy is for when there are none.

    \b
    Exit codes:
      0    stopped by a signal, and running tasks could end
      2    bad usage
      69   no module had succeeded in the time of --require-healthy
      70   the starter itself gave up
      130  Ctrl-C while running tasks were to end

    \b
    Example:
      pgflow-starter run shop.flows:order shop.jobs:send_email --notify --dsn 'host=localhost dbname=shop'
      pgflow-starter run shop.flows:order shop.flows:nightly --http :8080 --concurrency 50 --require-healthy 60
    """
    _log_to_stderr(log_level.upper(), log_json)
    sys.path.insert(0, os.getcwd())
    with handled() as signals:
        try:
            found = named(modules, signals)
        except Interrupted:
            return  # there is nothing to stop yet
        strategy = SignalStrategy.NOTIFY if notify else SignalStrategy.POLLING
        with ExitStack() as ends:
            told = _told(metrics, ends)
            try:
                starter = start(
                    dsn, **found._asdict(), signal_strategy=strategy, **settings, **{**(more or {}), **told}
                )
            except ValueError as error:
                raise click.UsageError(str(error)) from None
            signals.when_again(partial(stop_at_once, starter))
            ends.callback(starter.stop)
            if http:
                server = ends.enter_context(serve(starter, http, actions=actions, trace_url=trace_url))
                logger.info("serving the page and the probes at %s", server.url)
                ends.callback(starter.stop)  # before the server: the probes say it while tasks end
            _watch(starter, signals, require_healthy)
            logger.info("stopping: running tasks may end; Ctrl-C leaves at once")
        if signals.again:
            leave_at_once(Interrupted("left before the running tasks had ended: they are given back, to be run again"))
        logger.info("stopped")


def _told(metrics: str | None, ends: ExitStack) -> dict[str, Any]:
    """The settings with which metrics are served until `ends`, before anything is started: the address may be taken."""
    if metrics is None:
        return {}
    from pgflow_starter.cli.metrics import serve_metrics

    return serve_metrics(metrics, ends)


def stop_at_once(starter: Starter) -> None:
    """Have it give back what runs, for the process is about to end. On top of whatever the main thread does."""
    # A handler that computes keeps the interpreter for 5 ms each time it has it, and there may be dozens of them: the
    # thread that gives their tasks back would wait for all of them, again and again.
    sys.setswitchinterval(BRISK)
    starter.stop(0)


def _watch(starter: Starter, signals: Signals, require_healthy: float | None) -> None:
    """Log each turn to ready until a signal comes; modules tell their own. Raises StarterTerminated, Unhealthy."""
    clock, was_ready, ended = SystemClock(), False, False
    deadline = inf if require_healthy is None else clock.monotonic() + require_healthy
    while not ended:
        ended = signals.wait(LOOK_EVERY)
        try:
            status = starter.status()
        except StarterStopped:  # by a second Ctrl-C, right behind the first
            return
        if status.ready and not was_ready:
            _tell_ready(status, required=require_healthy is not None)
        was_ready = status.ready
        if status.healthy:
            deadline = inf  # it was, once: that is what was asked for
        if not ended and clock.monotonic() >= deadline:
            raise Unhealthy(f"no module has succeeded within {require_healthy:g} s; the log above tells why")


def _tell_ready(status: StarterStatus, *, required: bool) -> None:
    logger.log(logging.INFO if status.healthy else logging.ERROR, "%s", summary(status))
    failed = [state.module for state in status.modules if state.status is ModuleStatus.FAILED_PERMANENT]
    if failed:
        hint = "" if status.healthy or required else "; --require-healthy SECONDS ends what cannot run anything"
        logger.error(
            "failed for good and run nothing here: %s; mend them and start this anew%s", ", ".join(failed), hint
        )


def _log_to_stderr(level: str, as_json: bool) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if as_json else logging.Formatter(_TEXT))
    logging.basicConfig(handlers=[handler], level=level)
    # They tell of each connection that fails; the starter tells it once, without a password.
    for name in ("psycopg", "pykka"):
        logging.getLogger(name).setLevel(logging.ERROR)
