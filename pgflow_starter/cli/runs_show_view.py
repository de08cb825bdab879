"""A run with its steps and tasks before a person's eyes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from pgflow_starter.cli.run_lines import failures, nobody_runs
from pgflow_starter.cli.run_looks import RunSeen
from pgflow_starter.cli.telling import RUN_COLOURS, first_line, lasting, task_name, tasks_done, visible
from pgflow_starter.clock import SystemClock
from pgflow_starter.postgres.client.details import RunDetails, TaskRun
from pgflow_starter.postgres.client.run import Run

MOST_TASKS = 20
"""Tasks that are shown one by one: a map may have thousands."""

AT_THE_TOP = 3
"""Attempts that failed which are named above the table, while a run goes on: what is watched may be cut below."""

_FIRST = ("failed", "started", "queued")
"""The tasks that one looks for."""


def picture(seen: RunSeen, *, payloads: bool) -> RenderableType:
    """All that a person wants to see of it."""
    details = seen.details
    run = details.run
    told = [task for task in details.tasks if task.status != "completed" or task.error is not None or task.attempts > 1]
    told.sort(key=lambda task: _FIRST.index(task.status) if task.status in _FIRST else len(_FIRST))
    parts = [*_head(run), *what_is_wrong(seen), step_table(details)]
    counts = {step.slug: step.tasks for step in details.steps}
    for task in told[:MOST_TASKS]:
        parts += _task(task, counts.get(task.step_slug))
    if len(told) > MOST_TASKS:
        parts.append(Text(f"and {len(told) - MOST_TASKS:,} more tasks like these: --json has all"))
    if payloads:
        parts += _payload("input", run.input)
        for step in details.steps:
            if step.status == "completed":
                parts += _payload(f"output of {visible(step.slug)}", step.output)
    return Group(*parts)


def what_is_wrong(seen: RunSeen) -> Iterator[Text]:
    """With a run that goes on: that nobody runs it, and the first attempts that failed."""
    if seen.alone:
        yield Text(nobody_runs(seen), style="yellow")
    if not seen.details.run.finished:
        yield from (Text(line.text, style="red") for line in islice(failures(seen), AT_THE_TOP))


def _head(run: Run) -> Iterator[RenderableType]:
    yield Text.assemble(
        f"run {run.id}: ", (run.status, RUN_COLOURS.get(run.status, "")), f", of {visible(run.flow_slug)}"
    )
    began, ended = run.started_at, run.ended_at
    if began is not None:
        words = f"began {_time(began)}, {lasting(began, SystemClock().now())} ago"
        yield Text(words if ended is None else f"{words}, took {_took(began, ended)}")
    if run.error is not None:
        yield Text(f"error: {first_line(run.error)}", style="red")
    for note in run.notes:
        yield Text(visible(note), style="yellow")


def step_table(details: RunDetails[Run]) -> Table:
    """A row for each step."""
    attempts: dict[str, int] = {}
    for task in details.tasks:
        attempts[task.step_slug] = max(task.attempts, attempts.get(task.step_slug, 0))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("step", overflow="fold")
    table.add_column("status", no_wrap=True)
    for name in ("tasks done", "attempts", "took"):
        table.add_column(name, no_wrap=True, justify="right")
    if any(step.reason for step in details.steps):
        table.add_column("why skipped")
    for step in details.steps:
        told = (
            Text(visible(step.slug)),
            Text(step.status, style=RUN_COLOURS.get(step.status, "")),
            tasks_done(step.tasks, step.remaining),
            str(attempts.get(step.slug, "")),
            _took(step.started_at, step.ended_at),
            (step.reason or "").replace("_", " "),
        )
        table.add_row(*told[: len(table.columns)])
    return table


def _task(task: TaskRun, of: int | None) -> Iterator[RenderableType]:
    words = [f", {task.attempts} attempt{'' if task.attempts == 1 else 's'}"]
    for event, time in (("queued", task.queued_at), ("began", task.started_at), ("ended", task.ended_at)):
        if time is not None:
            words.append(f"{event} {_time(time)}")
    if task.worker_id is not None:
        words.append(f"worker {task.worker_id}")
    name = task_name(task.step_slug, task.index, of)
    yield Text.assemble(f"{name}: ", (task.status, RUN_COLOURS.get(task.status, "")), ", ".join(words))
    if task.error is not None:
        last = "" if task.status == "failed" else "the last attempt that failed:\n"
        yield _indented(last + task.error)


def _payload(name: str, value: Any) -> Iterator[RenderableType]:
    yield Text(f"{name}:")
    yield _indented(json.dumps(value, indent=2, ensure_ascii=False))


def _indented(text: str) -> Text:
    return Text("\n".join(f"    {visible(line)}" for line in text.expandtabs().splitlines()))


def _time(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M:%S}.{time.microsecond // 1000:03}Z"


def _took(began: datetime | None, ended: datetime | None) -> str:
    return "" if began is None or ended is None else f"{(ended - began).total_seconds():.1f} s"
