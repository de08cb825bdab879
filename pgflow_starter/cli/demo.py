"""`demo`: the main job on an embedded PostgreSQL, shown and checked."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from contextlib import closing
from functools import partial
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pgflow_starter.cli.busy import busy
from pgflow_starter.cli.demo_modules import MESSAGES, LoyaltyPoints, process_order, restock, send_email
from pgflow_starter.cli.module_table import View, view_on
from pgflow_starter.cli.options import flag, stdout_console
from pgflow_starter.cli.signals import Signals, handled
from pgflow_starter.cli.telling import summary
from pgflow_starter.clock import SystemClock
from pgflow_starter.core.phases import SignalStrategy
from pgflow_starter.core.state import ModuleError, ModuleStatus
from pgflow_starter.errors import NotReadyError
from pgflow_starter.postgres.client.run import Run
from pgflow_starter.postgres.embedded.server import EmbeddedPostgres
from pgflow_starter.postgres.setup.admin import queue_lock
from pgflow_starter.postgres.setup.install import install
from pgflow_starter.starter.handle import Starter
from pgflow_starter.starter.start import start

LOCK_TIMEOUT = "2s"
READY_WITHIN = 30.0
DONE_WITHIN = 15.0
FRAME = 0.1
"""Seconds from one picture of the live view to the next."""

_LOCK_NOT_AVAILABLE = "55P03"


@click.command(short_help="The main job on an embedded PostgreSQL.")
@flag("--polling", "Let the workers poll for messages rather than be notified of them.")
def demo(polling: bool) -> None:
    """Register flows and jobs on an embedded PostgreSQL, run real messages, show states and results.

    Needs no database, nothing but the extra `embedded`; the first time a network, for the pgflow core.
    Exit code 0: all of it went as it should; 1: what did not; 130: Ctrl-C.

    \b
    Example:
      pgflow-starter demo
    """
    strategy = SignalStrategy.POLLING if polling else SignalStrategy.NOTIFY
    console, clock = stdout_console(), SystemClock()
    began = clock.monotonic()
    # The library would say of the states what is shown here.
    logging.getLogger("pgflow_starter.modules").setLevel(logging.CRITICAL)
    click.echo("Starting an embedded PostgreSQL ...")
    with handled() as signals, closing(EmbeddedPostgres(settings={"lock_timeout": LOCK_TIMEOUT})) as server:
        with busy("getting it ready") as say:
            signals.aside(server.start)
            dsn = server.conninfo()
            signals.aside(partial(install, dsn, progress=say))
        problems = _perform(dsn, strategy, console, signals)
    if problems:
        raise click.ClickException(f"this is not how it should have gone: {'; '.join(problems)}")
    click.echo(f"All of it as it should be, in {clock.monotonic() - began:.1f} s.")


def _perform(dsn: str, strategy: SignalStrategy, console: Console, signals: Signals) -> list[str]:
    """Have the starter started, watched, used and stopped; what went wrong."""
    click.echo(f"Registering four modules under the {strategy} strategy:")
    flows: list[Any] = [process_order, LoyaltyPoints]  # a type checker would say of the second what the starter does
    jobs = [send_email, restock]
    with (
        queue_lock(dsn, restock.slug) as release,
        start(dsn, flows=flows, jobs=jobs, signal_strategy=strategy) as starter,
    ):
        with view_on(console, SystemClock()) as view:
            obstacle = _watch_until_ready(starter, release, view, signals)
        problems = _unexpected_states(starter, obstacle)
        if not problems:
            click.echo("Running what they are for:")
            runs = _run_messages(starter, signals)
            console.print(_table(runs))
            problems = [_run_text(run) for run, (_, _, due) in zip(runs, MESSAGES, strict=True) if run.result != due]
    return problems


def _watch_until_ready(
    starter: Starter, release: Callable[[], None], view: View, signals: Signals
) -> ModuleError | None:
    """Show the states until all are terminal; the error that `restock` met before the lock was released."""
    view.say(f"another session holds the lock of queue {restock.slug!r}, so that this one has to wait and try again")
    clock = SystemClock()
    deadline = clock.monotonic() + READY_WITHIN
    obstacle: ModuleError | None = None
    while True:
        try:
            signals.aside(partial(starter.await_ready, timeout=FRAME))
            ready = True
        except NotReadyError:
            if clock.monotonic() > deadline:
                raise
            ready = False
        status, state = starter.status(), starter.module_status(restock)
        view.show(status)
        if obstacle is None and state is not None and state.status is ModuleStatus.RETRYING:
            obstacle = state.last_error
            release()
            view.say(f"the other session has released the lock of queue {restock.slug!r}")
        if ready:
            view.say(summary(status))
            return obstacle


def _unexpected_states(starter: Starter, obstacle: ModuleError | None) -> list[str]:
    problems = []
    modules: tuple[Any, ...] = (process_order, send_email, restock, LoyaltyPoints)
    for module in modules:
        due = ModuleStatus.FAILED_PERMANENT if module is LoyaltyPoints else ModuleStatus.SUCCEEDED
        state = starter.module_status(module)
        if state is None or state.status is not due:
            problems.append(f"{module} should be {due}, and is {state and state.status}")
        elif module is restock and (state.attempts < 2 or obstacle is None):
            problems.append(f"{module} succeeded at once, though its queue was locked")
    if obstacle is not None and obstacle.error_type != _LOCK_NOT_AVAILABLE:
        problems.append(f"{restock} met {obstacle.error_type} rather than {_LOCK_NOT_AVAILABLE}: {obstacle.reason}")
    return problems


def _run_messages(starter: Starter, signals: Signals) -> list[Run]:
    """All messages at once, then wait for each; what is not done in time comes back as it is."""
    client, clock = starter.client, SystemClock()
    runs = [
        (client.enqueue if module is not process_order else client.start_flow)(module, given)
        for module, given, _ in MESSAGES
    ]
    deadline = clock.monotonic() + DONE_WITHIN
    done = []
    for run in runs:
        try:
            done.append(signals.aside(partial(run.wait, max(0.0, deadline - clock.monotonic()))))
        except TimeoutError:
            done.append(run.refresh())
    return done


def _table(runs: list[Run]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("run of", "status", "took"):
        table.add_column(name, no_wrap=True)
    table.add_column("input", ratio=1)
    table.add_column("output", ratio=1)
    for run in runs:
        began, ended = run.started_at, run.ended_at
        took = "" if began is None or ended is None else f"{(ended - began).total_seconds() * 1000:.0f} ms"
        table.add_row(
            run.flow_slug,
            Text(run.status, style="green" if run.status == "completed" else "red"),
            took,
            json.dumps(run.input),
            json.dumps(run.result),
        )
    return table


def _run_text(run: Run) -> str:
    return f"run {run.id} of {run.flow_slug} is {run.status}" + (f": {run.error}" if run.error else f", {run.result!r}")
