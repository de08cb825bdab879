"""`runs show`: one run with its steps and tasks."""

from __future__ import annotations

import sys
from functools import partial
from typing import Any
from uuid import UUID

import click

from pgflow_starter.cli.clients import client_on
from pgflow_starter.cli.options import dsn_option, flag, json_option, seconds_option
from pgflow_starter.cli.run_data import run_data
from pgflow_starter.cli.run_lines import run_lines
from pgflow_starter.cli.run_looks import RunLooks, RunSeen
from pgflow_starter.cli.runs_show_view import picture
from pgflow_starter.cli.signals import Interrupted, handled
from pgflow_starter.cli.watching import Telling
from pgflow_starter.core.json_ready import json_ready


@click.command(short_help="A run with its steps, attempts and errors.")
@click.argument("run_id", metavar="RUN_ID", type=click.UUID)
@flag("--payloads", "With the run's input, and what each step returned: what they hold may be secret, or long.")
@json_option
@flag("--watch", "Ask again and again, until the run has ended: live on a terminal, a line for each change elsewhere.")
@seconds_option("--interval", 1.0, "From one question of --watch to the next.")
@dsn_option
def show(run_id: UUID, payloads: bool, as_json: bool, watch: bool, interval: float, dsn: str) -> None:
    """Show the run RUN_ID: where its steps stand, and what its tasks failed of, with the traceback.

    Of tasks all are told but those that were completed at once; of a task pgflow keeps the error of its last attempt
    that failed. With --watch each attempt that fails is told when it has, and that nobody runs it. As JSON it is an
    object: the run's `id`, `flow_slug`, `status`, `error`, `started_at`, `ended_at` and `notes`; `workers_alive`, how
    many there are of its flow, null once it has ended; `steps` with `slug`, `status`, `error`, `tasks`, `remaining`,
    `started_at`, `ended_at`, `notes` and `reason`; `tasks`, all of them, with `step_slug`, `index`, `status`,
    `attempts`, `error`, `queued_at`, `started_at`, `ended_at`, `worker_id` and `notes`; with --payloads also the run's
    `input` and `output` and each step's `output`.

    \b
    Exit codes:
      0    it is shown, whatever became of it; with --watch: completed
      1    it is not, and why; with --watch also: it failed
      2    bad usage
      130  Ctrl-C before the answer, or with --watch before the run has ended
    \b
    Example:
      pgflow-starter runs show 5b0d5f7e-4f0a-4c52-9f0e-1d2f3a4b5c6d --dsn 'host=localhost dbname=shop'
      pgflow-starter runs show 5b0d5f7e-4f0a-4c52-9f0e-1d2f3a4b5c6d --payloads --json | jq .input
    """
    telling = Telling(partial(picture, payloads=payloads), run_lines, partial(_data, payloads=payloads))
    with handled() as signals, client_on(dsn) as client:
        looks = RunLooks(client, run_id, payloads=payloads)
        if not watch:
            telling.once(looks.look, signals, as_json=as_json)
            return
        last = telling.watch(
            looks.look, signals, interval, as_json=as_json, enough=lambda seen: seen.details.run.finished
        )
        if last is None or not last.details.run.finished:
            raise Interrupted(f"run {run_id} goes on, and nobody watches it here any more", signals.number)
    sys.exit(int(last.details.run.status != "completed"))


def _data(seen: RunSeen, *, payloads: bool) -> dict[str, Any]:
    details = seen.details
    steps = [json_ready(step) for step in details.steps]
    if not payloads:
        for step in steps:
            del step["output"]
    data = run_data(details.run, payloads=payloads)
    tasks = [json_ready(task) for task in details.tasks]
    return {**data, "workers_alive": seen.workers, "steps": steps, "tasks": tasks}
