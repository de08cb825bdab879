"""What the database says, once or again and again: a table that changes, lines for what is new, or JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from pgflow_starter.cli.busy import busy
from pgflow_starter.cli.options import TimedLines, json_line, live_on, stdout_console
from pgflow_starter.cli.signals import Interrupted, Signals
from pgflow_starter.clock import SystemClock
from pgflow_starter.core.text import one_line
from pgflow_starter.errors import DatabaseError

T = TypeVar("T")


@dataclass(frozen=True)
class Telling(Generic[T]):
    """How an answer is told: as a picture, as lines each of which has a key, as data for JSON."""

    picture: Callable[[T], RenderableType]
    lines: Callable[[T], Iterable[tuple[str, str]]]
    data: Callable[[T], Any]

    def once(self, asking: Callable[[], T], signals: Signals, *, as_json: bool) -> T:
        """Ask and tell. Raises PgflowError, Interrupted."""
        with busy("asking the database"):
            answer = signals.aside(asking)
        if as_json:
            click.echo(json_line(self.data(answer)))
        else:
            stdout_console().print(self.picture(answer))
        return answer

    def watch(
        self,
        asking: Callable[[], T],
        signals: Signals,
        interval: float,
        *,
        as_json: bool,
        enough: Callable[[T], bool] = lambda _: False,
    ) -> T | None:
        """Ask and tell again and again, until it is enough or a signal comes; the last answer, if the last came.

        A database that goes away is waited out, and told. Raises PgflowError for all else; before the first answer for
        that too, and Interrupted.
        """
        console = stdout_console()
        answer, answered = None, False
        with nullcontext() if as_json else live_on(console) as live:
            view = self._view(console, live, as_json=as_json)
            while not signals.number:
                try:
                    answer = signals.aside(asking)
                    answered = True
                    view.show(answer)
                    if enough(answer):
                        break
                except Interrupted:
                    if not answered:
                        raise
                    break
                except DatabaseError as error:
                    if not answered:
                        raise
                    answer = None
                    view.away(one_line(str(error)))
                signals.wait(interval)
        return answer

    def _view(self, console: Console, live: Live | None, *, as_json: bool) -> _Json[T] | _Lines[T] | _Picture[T]:
        if as_json:
            return _Json(self)
        return _Lines(self, console) if live is None else _Picture(self, live)


class _Json(Generic[T]):
    def __init__(self, telling: Telling[T]) -> None:
        self._telling = telling

    def show(self, answer: T) -> None:
        click.echo(json_line(self._telling.data(answer)))

    def away(self, reason: str) -> None:
        click.echo(reason, err=True)


class _Picture(Generic[T]):
    def __init__(self, telling: Telling[T], live: Live) -> None:
        self._telling = telling
        self._live = live
        self._last: RenderableType = Text()

    def show(self, answer: T) -> None:
        self._last = self._telling.picture(answer)
        self._live.update(self._last, refresh=True)

    def away(self, reason: str) -> None:
        self._live.update(Group(self._last, Text(f"this is old: {reason}", style="red")), refresh=True)


class _Lines(TimedLines, Generic[T]):
    def __init__(self, telling: Telling[T], console: Console) -> None:
        super().__init__(console, SystemClock())
        self._telling = telling
        self._told: dict[str, str] = {}

    def show(self, answer: T) -> None:
        lines = dict(self._telling.lines(answer))
        for key, line in lines.items():
            if self._told.get(key) != line:
                self.say(line)
        self._told = lines

    def away(self, reason: str) -> None:
        if self._told.get("") != reason:
            self._told = {"": reason}  # all is said again when it is back
            self.say(reason)
