"""Module states before a person's eyes: a live table on a terminal, a line for each change elsewhere."""

from __future__ import annotations

from datetime import datetime
from types import TracebackType
from typing import Protocol, Self

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from pgflow_starter.cli.telling import News, told, until
from pgflow_starter.clock import Clock
from pgflow_starter.core.state import ModuleState, ModuleStatus, Phase, StarterStatus
from pgflow_starter.core.text import one_line

_LONGEST_REASON = 160

_COLOURS = {
    ModuleStatus.PENDING: "cyan",
    ModuleStatus.RETRYING: "yellow",
    ModuleStatus.SUCCEEDED: "green",
    ModuleStatus.FAILED_PERMANENT: "red",
}


class View(Protocol):
    """Shows one status after the other, while it is entered. For one thread."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def show(self, status: StarterStatus) -> None:
        """The states as they are now."""

    def say(self, line: str) -> None:
        """Something that happened beside the states."""


def view_on(console: Console, clock: Clock) -> View:
    """The view that fits what the console writes to."""
    live = console.is_terminal and not console.is_dumb_terminal
    return _LiveTable(console, clock) if live else _Lines(console, clock)


class _LiveTable:
    def __init__(self, console: Console, clock: Clock) -> None:
        self._console = console
        self._clock = clock
        self._live = Live(console=console, auto_refresh=False)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def show(self, status: StarterStatus) -> None:
        self._live.update(self._picture(status), refresh=True)

    def say(self, line: str) -> None:
        self._console.print(Text(line))

    def _picture(self, status: StarterStatus) -> Group:
        # Below the table, for an error's reason takes more room than a column of a narrow terminal has.
        return Group(module_table(status, self._clock.now()), *map(module_error, status.modules))


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
        f"phase {error.phase}: {one_line(error.reason, _LONGEST_REASON)} [{error.error_type}]",
    )


class _Lines:
    def __init__(self, console: Console, clock: Clock) -> None:
        self._console = console
        self._clock = clock
        self._news = News()
        self._began = clock.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return

    def show(self, status: StarterStatus) -> None:
        for state in self._news.of(status):
            self.say(told(state, self._clock.now()))

    def say(self, line: str) -> None:
        self._console.print(Text(f"{self._clock.monotonic() - self._began:6.2f} s  {line}"), soft_wrap=True)
