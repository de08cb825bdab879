"""What is news: lines about one thing and another, compared with those before."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from rich.console import Console

from pgflow_starter.cli.options import TimedLines
from pgflow_starter.clock import Clock


class Line(NamedTuple):
    """A line about one thing.

    News when it is another than the one before about that; with `state`, when that is another, whatever the text. A
    `calm` one says that all is well with it, which is news only where the one before was not. A `lasting` one counts as
    the one before also when looks come between in which there is none.
    """

    about: str
    text: str
    state: object = None
    calm: bool = False
    lasting: bool = False

    def is_news(self, before: Line | None) -> bool:
        """Whether there is something new in it."""
        if self.calm:
            return before is not None and not before.calm
        return before is None or (self.state or self.text) != (before.state or before.text)


class Changes:
    """Compares the lines of each look with those before. For one thread."""

    def __init__(self) -> None:
        self._before: dict[str, Line] = {}

    def of(self, lines: Iterable[Line]) -> list[str]:
        """What there is to say."""
        now = {line.about: line for line in lines}
        news = [line.text for line in now.values() if line.is_news(self._before.get(line.about))]
        self._before = {about: line for about, line in self._before.items() if line.lasting} | now
        return news


class ChangingLines(TimedLines):
    """Says what is news, and once when nobody answers. For one thread."""

    def __init__(self, console: Console, clock: Clock, asked: str) -> None:
        super().__init__(console, clock)
        self._asked = asked
        self._changes = Changes()
        self._away = ""

    def show(self, lines: Iterable[Line]) -> None:
        """What is new since the look before."""
        if self._away:
            self._away = ""
            self.say(f"{self._asked} is back")
        for text in self._changes.of(lines):
            self.say(text)

    def away(self, reason: str) -> None:
        """Nobody answers, for that."""
        if self._away != reason:
            self._away = reason
            self.say(reason)
