"""`flow start`: a run of a flow or job, and what became of it."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import click

from pgflow_starter.cli.busy import busy
from pgflow_starter.cli.clients import client_on
from pgflow_starter.cli.durations import Duration
from pgflow_starter.cli.failures import NoAnswer
from pgflow_starter.cli.flow_start_view import RunView, run_view
from pgflow_starter.cli.options import checked, dsn_option, json_line, json_option, option
from pgflow_starter.cli.run_data import run_data
from pgflow_starter.cli.run_lines import nobody_runs
from pgflow_starter.cli.run_looks import RunLooks, RunSeen
from pgflow_starter.cli.signals import Interrupted, Signals, handled
from pgflow_starter.cli.telling import first_line
from pgflow_starter.clock import SystemClock
from pgflow_starter.core.due import due_of
from pgflow_starter.core.keys import run_id_of
from pgflow_starter.core.text import one_line
from pgflow_starter.errors import DatabaseError
from pgflow_starter.postgres.client.run import Run

GLANCE = 1.0
"""Seconds that a look at the steps may wait for it."""

FRAME = 1.0
"""Seconds until the first look at the steps, and from one to the next."""

FOR_EVER = "forever"


def _seconds(value: str) -> float:
    try:
        seconds = math.inf if value == FOR_EVER else float(value)
    except ValueError:
        seconds = math.nan
    if not seconds >= 0:
        # Without a number it takes the next word for one.
        raise ValueError(f"{value!r} is not a number of seconds; write --wait at the end, or --wait={FOR_EVER}")
    return seconds


def _moment(value: str) -> datetime:
    try:
        at = datetime.fromisoformat(value)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise ValueError(f"{value!r} is not a time with its offset from UTC; write 2026-12-24T18:00+01:00, or ...Z")
    due_of(None, at)
    return at


@click.command(short_help="Start a run of a flow or job, and wait for its output.")
@click.argument("slug", metavar="SLUG")
@click.argument("given", metavar="JSON")
@dsn_option
@option(
    "--wait",
    callback=checked(_seconds),
    is_flag=False,
    flag_value=FOR_EVER,
    metavar="[SECONDS]",
    help=f"Wait for the run's end, so many seconds at most; alone, or as '{FOR_EVER}', without end.",
)
@option(
    "--run-id",
    type=click.UUID,
    help="The run's id, chosen by you: where that run is there already, nothing is started and it is told.",
)
@option("--key", help="What the run is about: a run that was started with the same key is told, and none started.")
@option("--delay", type=Duration(), metavar="DURATION", help="Begin after so long: 30 (seconds), 30s, 15m, 12h, 30d.")
@option("--at", callback=checked(_moment), metavar="ISO8601", help="Begin at that time: 2026-12-24T18:00+01:00.")
@json_option
def start(
    slug: str,
    given: str,
    dsn: str,
    wait: float | None,
    run_id: UUID | None,
    key: str | None,
    delay: timedelta | None,
    at: datetime | None,
    as_json: bool,
) -> None:
    """Start a run of the flow or job SLUG with the input JSON ('-': standard input, '@FILE': a file).

    The run's id goes to standard output, then, with --wait, its output. When it takes longer than a second, standard
    error tells how its steps stand, each attempt that failed, and that nobody runs it. A starter that has the flow must
    have been there once; to run it, one must be there now.

    \b
    Exit codes:
      0    the run is started; with --wait: completed
      1    the run failed, or could not be started
      2    bad usage, an input that is not JSON among it
      3    --wait was over before the run was; the run goes on
      130  Ctrl-C; what is told then is the run's id
    \b
    Example:
      pgflow-starter flow start order '{"order_id": 7}' --wait 30
      pgflow-starter flow start send_email @message.json --key welcome-7 --delay 15m --json
    """
    value = _json(given)
    if delay is not None and at is not None:
        raise click.UsageError("give --delay or --at, not both")
    # Chosen here, for it has to be told also where the answer does not come.
    run_id = _chosen(slug, run_id, key)
    seconds = None if delay is None else delay.total_seconds()
    with handled() as signals, client_on(dsn) as client:
        starting = partial(client.start_flow, slug, value, run_id=run_id, delay=seconds, at=at)
        run = _started(starting, run_id, signals, keyed=key is not None)
        if run.input_differs:
            click.echo(f"Note: run {run_id} was started before, with another input", err=True)
        if not as_json:
            click.echo(str(run.id))
        waited, seen = (None, None) if wait is None else _finished(run, wait, dsn, signals)
    if as_json:
        click.echo(json_line({**run_data(waited or run), "input_differs": run.input_differs}))
    elif waited is not None and waited.status == "completed":
        click.echo(json_line(waited.output))
    if waited is not None:
        _end(waited, wait, seen)


def _chosen(slug: str, run_id: UUID | None, key: str | None) -> UUID:
    """The run's id. Raises UsageError."""
    if key is None:
        return run_id or uuid4()
    if run_id is not None:
        raise click.UsageError("give --key or --run-id, not both")
    try:
        return run_id_of(slug, key)
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def _started(start: Callable[[], Run], run_id: UUID, signals: Signals, *, keyed: bool) -> Run:
    """The run, which is there now. Raises PgflowError, UsageError, Interrupted."""
    try:
        with busy("asking the database"):
            return signals.aside(start)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    except Interrupted:
        again = "" if keyed else f" with --run-id {run_id}"
        raise Interrupted(
            f"run {run_id} may be started or not; the same command{again} starts it once at most", signals.number
        ) from None


def _json(given: str) -> Any:
    """The input. Raises UsageError."""
    try:
        if given == "-":
            if sys.stdin is None:
                raise click.UsageError("the input cannot be read: standard input is closed")
            given = sys.stdin.read()
        elif given.startswith("@"):
            given = Path(given[1:]).read_text(encoding="utf-8")
        return json.loads(given)
    except OSError as error:
        raise click.UsageError(f"the input cannot be read: {error.strerror}: {error.filename!r}") from None
    except (ValueError, RecursionError) as error:
        hint = "write '{\"order_id\": 7}', '-' for standard input, '@FILE' for a file"
        raise click.UsageError(f"the input is not JSON ({one_line(str(error))}): {hint}") from None


def _finished(run: Run, seconds: float, dsn: str, signals: Signals) -> tuple[Run, RunSeen | None]:
    """The run once it is finished, or as it is when that takes too long; and what was seen of it last, if it was.

    Raises PgflowError, Interrupted.
    """
    clock = SystemClock()
    deadline = clock.monotonic() + seconds
    seen: RunSeen | None = None
    told = False
    try:
        # A client of its own for the looks, for they shall not wait as long as the start may.
        with client_on(dsn, GLANCE) as glancing, run_view(clock) as view:
            looks = RunLooks(glancing, run.id)
            while True:
                left = deadline - clock.monotonic()
                with suppress(TimeoutError):
                    run = signals.aside(partial(run.wait, max(0.0, min(left, FRAME))))
                if run.finished and not told:
                    return run, None
                seen, told = _look(looks, view, signals), True
                if run.finished or left <= FRAME:
                    return run, seen
    except Interrupted:
        words = f"run {run.id} goes on, and nobody waits for it here any more"
        raise Interrupted(words, signals.number) from None


def _look(looks: RunLooks, view: RunView, signals: Signals) -> RunSeen | None:
    """What is seen of the run, if it can be; shown."""
    try:
        seen = signals.aside(looks.look)
    except DatabaseError as error:
        view.away(one_line(str(error)))
        return None
    view.show(seen)
    return seen


def _end(run: Run, wait: float | None, seen: RunSeen | None) -> None:
    """Raise what makes the exit code, for a run that is not completed."""
    if run.status == "failed":
        raise click.ClickException(f"the run failed: {first_line(run.error or '') or 'no task says why'}")
    if not run.finished:
        goes_on = f"the run is not finished after {wait:g} s and goes on"
        if seen is not None and seen.alone:
            raise NoAnswer(f"{goes_on}; {nobody_runs(seen)}")
        raise NoAnswer(f"{goes_on}: `pgflow-starter runs show {run.id} --watch` tells how")
