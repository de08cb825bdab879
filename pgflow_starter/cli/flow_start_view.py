"""How the steps of a run stand, on standard error: a live table on a terminal, a line for each change elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from pgflow_starter.cli.options import TimedLines, live_on, stderr_console
from pgflow_starter.cli.telling import RUN_COLOURS, tasks_done
from pgflow_starter.clock import Clock
from pgflow_starter.core.text import one_line
from pgflow_starter.postgres.client.run import Run
from pgflow_starter.postgres.client.steps import StepRun


@contextmanager
def run_view(run: Run, clock: Clock) -> Iterator[RunView]:
    """The view that fits standard error, for the duration of the block and one thread."""
    console = stderr_console()
    with live_on(console) as live:
        yield _Lines(console, clock) if live is None else _LiveTable(run, live, clock)


class _LiveTable:
    def __init__(self, run: Run, live: Live, clock: Clock) -> None:
        self._run = run
        self._live = live
        self._clock = clock
        self._began = clock.monotonic()
        self._steps: Sequence[StepRun] = ()

    def show(self, steps: Sequence[StepRun]) -> None:
        self._steps = steps
        self._update(Text(f"run of {self._run.flow_slug}, {self._clock.monotonic() - self._began:.0f} s"))

    def away(self, reason: str) -> None:
        self._update(Text(f"this may be old, for {reason}", style="yellow"))

    def _update(self, below: Text) -> None:
        self._live.update(Group(_table(self._steps), below), refresh=True)


def _table(steps: Sequence[StepRun]) -> Table:
    table = Table("step", "status", "tasks done", "took", box=box.SIMPLE_HEAD, pad_edge=False)
    for step in steps:
        began, ended = step.started_at, step.ended_at
        took = "" if began is None or ended is None else f"{(ended - began).total_seconds():.1f} s"
        table.add_row(
            Text(step.slug),
            Text(step.status, style=RUN_COLOURS.get(step.status, "")),
            tasks_done(step.tasks, step.remaining),
            took,
        )
    return table


class _Lines(TimedLines):
    def __init__(self, console: Console, clock: Clock) -> None:
        super().__init__(console, clock)
        self._last: dict[str, str] = {}

    def show(self, steps: Sequence[StepRun]) -> None:
        for step in steps:
            done = tasks_done(step.tasks, step.remaining)
            self._tell(step.slug, f"{step.slug}: {step.status}" + (f", {done} tasks done" if done else ""))
        self._last.pop("", None)

    def away(self, reason: str) -> None:
        self._tell("", one_line(reason))

    def _tell(self, slug: str, line: str) -> None:
        if self._last.get(slug) != line:
            self._last[slug] = line
            self.say(line)


RunView = _LiveTable | _Lines
"""Shows the steps as they are now, or why there are none to be had."""
