"""`runs cancel`, `runs rerun`, `runs delete`: what a person does about runs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

import click

from pgflow_starter.cli.asking import make_sure
from pgflow_starter.cli.busy import busy
from pgflow_starter.cli.clients import client_on
from pgflow_starter.cli.options import dsn_option, flag, json_option, option
from pgflow_starter.cli.runs_each import Deed
from pgflow_starter.cli.runs_filter import filter_options
from pgflow_starter.cli.signals import handled
from pgflow_starter.core.cancelled import CANCELLED
from pgflow_starter.core.encoding import error_text
from pgflow_starter.core.runs import FINISHED, EndedStatus
from pgflow_starter.errors import PgflowError
from pgflow_starter.postgres.client.listings import MOST
from pgflow_starter.starter.client import PgflowClient

_run_ids = click.argument("run_ids", metavar="RUN_ID...", nargs=-1, required=True, type=click.UUID)
_yes = flag("--yes", "Do not ask.")


@click.command(short_help="Cancel runs: they fail now, for that reason.")
@_run_ids
@option("--reason", default=CANCELLED, show_default=True, help="What each run's error will be.")
@_yes
@json_option
@dsn_option
def cancel(run_ids: Sequence[UUID], reason: str, yes: bool, as_json: bool, dsn: str) -> None:
    """Cancel each run RUN_ID: it fails, its waiting tasks never begin, and what runs is told to stop.

    More than one: it asks, or, where standard input is no terminal, wants --yes. One that has ended
    stays as it is. As JSON it is an object: `runs` are they, with `id`, `done` and `problem`, which says why not.

    \b
    Exit codes:
      0    each of them is cancelled, now or before for the same reason
      1    not all of them, and why: one had ended before, say
      2    bad usage, or nobody to ask
      130  Ctrl-C; what is told then is how many are cancelled
    \b
    Example:
      pgflow-starter runs cancel 5b0d5f7e-4f0a-4c52-9f0e-1d2f3a4b5c6d --reason 'ordered twice'
    """

    def act(client: PgflowClient, run_id: UUID) -> dict[str, Any]:
        run = client.cancel(run_id, reason)
        if run.error != error_text(reason):
            raise PgflowError(f"run {run_id} had ended before: it is {run.status}")
        return {}

    chosen = list(dict.fromkeys(run_ids))
    if len(chosen) > 1 and not yes:
        make_sure(f"Cancel these {len(chosen)} runs?", "nothing was cancelled")
    Deed("cancelling", "cancelled", act).to_each(chosen, dsn, as_json=as_json)


@click.command(short_help="Start runs anew with the input that they had.")
@click.argument("run_ids", metavar="[RUN_ID...]", nargs=-1, type=click.UUID)
@filter_options(FINISHED)
@_yes
@json_option
@dsn_option
def rerun(
    run_ids: Sequence[UUID],
    status: EndedStatus | None,
    flow: str | None,
    since: datetime | timedelta | None,
    yes: bool,
    as_json: bool,
    dsn: str,
) -> None:
    """Start a new run for each run RUN_ID, or for each that the options find: of the same flow, with the same input.

    The old run stays as it is, and the options find it again another time; a run that has not ended is not started
    anew. Without --status, the options find those that failed. More than one: it asks, or, where standard input is no
    terminal, wants --yes. As JSON it is an object: `runs` are they, with `id`, `done`, `problem`, which says why not,
    and where it is done `new_id`, the new run's.

    \b
    Exit codes:
      0    each of them is started anew; none may be found
      1    not all of them, and why
      2    bad usage, or nobody to ask
      130  Ctrl-C; what is told then is how many are started
    \b
    Example:
      pgflow-starter runs rerun 5b0d5f7e-4f0a-4c52-9f0e-1d2f3a4b5c6d
      pgflow-starter runs rerun --status failed --flow order --since 12h --yes
    """
    by_filter = (status, flow, since) != (None, None, None)
    if by_filter == bool(run_ids):
        raise click.UsageError("give either RUN_IDs, or which runs: --status, --flow, --since")
    chosen = _found(status or "failed", flow, since, dsn) if by_filter else list(dict.fromkeys(run_ids))
    if len(chosen) > 1 and not yes:
        make_sure(f"Start {len(chosen)} runs anew?", "nothing was started")

    def act(client: PgflowClient, run_id: UUID) -> dict[str, Any]:
        return {"new_id": str(client.rerun(run_id).id)}

    Deed("starting", "started anew", act).to_each(chosen, dsn, as_json=as_json)


@click.command(short_help="Delete finished runs, for good.")
@_run_ids
@_yes
@json_option
@dsn_option
def delete(run_ids: Sequence[UUID], yes: bool, as_json: bool, dsn: str) -> None:
    """Delete each run RUN_ID with its steps, tasks and messages. One that has not ended stays: cancel it first.

    It asks, or, where standard input is no terminal, wants --yes. As JSON it is an object: `runs` are they, with `id`,
    `done` and `problem`, which says why not.

    \b
    Exit codes:
      0    each of them is deleted
      1    not all of them, and why
      2    bad usage, or nobody to ask
      130  Ctrl-C; what is told then is how many are deleted
    \b
    Example:
      pgflow-starter runs delete 5b0d5f7e-4f0a-4c52-9f0e-1d2f3a4b5c6d --yes
    """
    chosen = list(dict.fromkeys(run_ids))
    if not yes:
        which = f"run {chosen[0]}" if len(chosen) == 1 else f"these {len(chosen)} runs"
        make_sure(f"Delete {which}, for good?", "nothing was deleted")

    def act(client: PgflowClient, run_id: UUID) -> dict[str, Any]:
        client.delete(run_id)
        return {}

    Deed("deleting", "deleted", act).to_each(chosen, dsn, as_json=as_json)


def _found(status: EndedStatus, flow: str | None, since: datetime | timedelta | None, dsn: str) -> list[UUID]:
    """Those that match. Raises PgflowError, and ClickException for more than can be listed."""
    with handled() as signals, client_on(dsn) as client, busy("asking the database"):
        found = signals.aside(partial(client.runs, status=status, flow=flow, since=since, limit=MOST))
    if len(found) == MOST:
        raise click.ClickException(f"nothing was started, for {MOST:,} runs or more match: choose fewer")
    return [run.id for run in found]
