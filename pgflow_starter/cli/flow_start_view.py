"""How a run that is waited for stands, on standard error: live on a terminal, a line for each change elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from pgflow_starter.cli.changes import ChangingLines
from pgflow_starter.cli.options import live_on, stderr_console
from pgflow_starter.cli.run_lines import step_lines
from pgflow_starter.cli.run_looks import RunSeen
from pgflow_starter.cli.runs_show_view import step_table, what_is_wrong
from pgflow_starter.clock import Clock


@contextmanager
def run_view(clock: Clock) -> Iterator[RunView]:
    """The view that fits standard error, for the duration of the block and one thread."""
    console = stderr_console()
    with live_on(console) as live:
        yield _Lines(console, clock) if live is None else _Picture(live, clock)


class _Picture:
    def __init__(self, live: Live, clock: Clock) -> None:
        self._live = live
        self._clock = clock
        self._began = clock.monotonic()
        self._last: RenderableType = Text(end="")

    def show(self, seen: RunSeen) -> None:
        self._last = Group(*what_is_wrong(seen), step_table(seen.details))
        self._update(Text(f"run of {seen.details.run.flow_slug}, {self._clock.monotonic() - self._began:.0f} s"))

    def away(self, reason: str) -> None:
        self._update(Text(f"this may be old, for {reason}", style="yellow"))

    def _update(self, below: Text) -> None:
        self._live.update(Group(self._last, below), refresh=True)


class _Lines:
    def __init__(self, console: Console, clock: Clock) -> None:
        self._said = ChangingLines(console, clock, "the database")
        self.away = self._said.away

    def show(self, seen: RunSeen) -> None:
        self._said.show(step_lines(seen))


RunView = _Picture | _Lines
"""Shows the run as it is now, or why it cannot be seen."""
