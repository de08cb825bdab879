"""What somebody answers, once or again and again: a table that changes, lines for what is new, or JSON."""

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
from pgflow_starter.cli.changes import ChangingLines, Line
from pgflow_starter.cli.options import json_line, live_on, stdout_console
from pgflow_starter.cli.readers import leave_without_reader
from pgflow_starter.cli.signals import Interrupted, Signals
from pgflow_starter.clock import SystemClock
from pgflow_starter.core.text import one_line
from pgflow_starter.errors import DatabaseError

T = TypeVar("T")

READER_SEEN = 1.0
"""Seconds within which it is seen that nobody reads any more."""


@dataclass(frozen=True)
class Telling(Generic[T]):
    """How an answer is told: as a picture, as lines of which the new ones are said, as data for JSON.

    `asked` is who answers, in words; of an `outage` it is watched on, with `patient` also before the first answer.
    """

    picture: Callable[[T], RenderableType]
    lines: Callable[[T], Iterable[Line]]
    data: Callable[[T], Any]
    asked: str = "the database"
    outage: type[Exception] = DatabaseError
    patient: bool = False

    def once(self, asking: Callable[[], T], signals: Signals, *, as_json: bool) -> T:
        """Ask and tell. Raises Interrupted, and what `asking` does."""
        with busy(f"asking {self.asked}"):
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

        An outage is waited out, and told. Raises what else `asking` does, and BrokenPipeError when nobody reads any
        more; before the first answer, unless it is patient, an outage too, and Interrupted.
        """
        console = stdout_console()
        answer, answered = None, self.patient
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
                except self.outage as error:
                    if not answered:
                        raise
                    answer = None
                    view.away(one_line(str(error)))
                _pause(signals, interval)
        return answer

    def _view(self, console: Console, live: Live | None, *, as_json: bool) -> _Json[T] | _Lines[T] | _Picture[T]:
        if as_json:
            return _Json(self)
        return _Lines(self, console) if live is None else _Picture(self, live)


def _pause(signals: Signals, seconds: float) -> None:
    while seconds > 0 and not signals.wait(min(seconds, READER_SEEN)):
        leave_without_reader()
        seconds -= READER_SEEN


class _Json(Generic[T]):
    def __init__(self, telling: Telling[T]) -> None:
        self._telling = telling
        self._away = ""

    def show(self, answer: T) -> None:
        self._away = ""
        click.echo(json_line(self._telling.data(answer)))

    def away(self, reason: str) -> None:
        if self._away != reason:
            self._away = reason
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


class _Lines(Generic[T]):
    def __init__(self, telling: Telling[T], console: Console) -> None:
        self._telling = telling
        self._said = ChangingLines(console, SystemClock(), telling.asked)
        self.away = self._said.away

    def show(self, answer: T) -> None:
        self._said.show(self._telling.lines(answer))
