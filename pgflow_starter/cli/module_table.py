"""Module states before a person's eyes: a live table on a terminal, a line for each change elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from pgflow_starter.cli.changes import Changes
from pgflow_starter.cli.options import TimedLines, live_on
from pgflow_starter.cli.telling import module_lines, until
from pgflow_starter.clock import Clock
from pgflow_starter.core.phases import Phase
from pgflow_starter.core.state import ModuleState, ModuleStatus, StarterStatus
from pgflow_starter.core.symptoms import see_error
from pgflow_starter.core.text import one_line

_LONGEST_REASON = 160

_COLOURS = {
    ModuleStatus.PENDING: "cyan",
    ModuleStatus.RETRYING: "yellow",
    ModuleStatus.SUCCEEDED: "green",
    ModuleStatus.FAILED_PERMANENT: "red",
}


@contextmanager
def view_on(console: Console, clock: Clock) -> Iterator[View]:
    """The view that fits what the console writes to, for the duration of the block and one thread."""
    with live_on(console) as live:
        yield _Lines(console, clock) if live is None else _LiveTable(live, clock)


def module_table(status: StarterStatus, now: datetime) -> Table:
    """A row for each module; `now` counts for what is still to come."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("module", overflow="fold")
    table.add_column("type")
    table.add_column("status", min_width=len(ModuleStatus.FAILED_PERMANENT))
    table.add_column("phase", min_width=len(Phase.NOTIFY_REGISTER))
    table.add_column("attempts", justify="right")
    table.add_column("next", min_width=len("in 10.0 s"))
    for state in status.modules:
        table.add_row(
            Text(state.module),
            str(state.type),
            Text(str(state.status), style=_COLOURS[state.status]),
            "" if state.phase is None else str(state.phase),
            str(state.attempts),
            "" if state.next_attempt_at is None else f"in {until(state.next_attempt_at, now)}",
        )
    return table


def module_error(state: ModuleState) -> Text:
    """Its last error, which takes more room than a column of a narrow terminal has; nothing where it has none."""
    error = state.last_error
    if error is None:
        return Text(end="")
    return Text.assemble(
        (f"{state.module}, last error: ", _COLOURS[state.status]),
        f"phase {error.phase}: {one_line(error.reason, _LONGEST_REASON)} [{error.error_type}]{see_error(error)}",
    )


class _LiveTable:
    def __init__(self, live: Live, clock: Clock) -> None:
        self._live = live
        self._clock = clock

    def show(self, status: StarterStatus) -> None:
        table = module_table(status, self._clock.now())
        self._live.update(Group(table, *map(module_error, status.modules)), refresh=True)

    def say(self, line: str) -> None:
        self._live.console.print(Text(line))


class _Lines(TimedLines):
    def __init__(self, console: Console, clock: Clock) -> None:
        super().__init__(console, clock)
        self._changes = Changes()

    def show(self, status: StarterStatus) -> None:
        for text in self._changes.of(module_lines(status, self._clock.now())):
            self.say(text)


View = _LiveTable | _Lines
"""Shows the states as they are now, and says what happened beside them."""
