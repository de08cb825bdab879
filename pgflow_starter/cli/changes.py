"""What is news: lines about one thing and another, compared with those before."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from rich.console import Console

from pgflow_starter.cli.options import TimedLines
from pgflow_starter.clock import Clock


class Line(NamedTuple):
    """A line about one thing.

    News when it is another than the one before about that; with `state`, when that is another, whatever the text.
    `over` is what there is to say when there is no line about it any more.
    """

    about: str
    text: str
    over: str = ""
    state: object = None

    def repeats(self, before: Line | None) -> bool:
        """Whether there is nothing new in it."""
        return before is not None and (self.state or self.text) == (before.state or before.text)


class Changes:
    """Compares the lines of each look with those of the one before. For one thread."""

    def __init__(self) -> None:
        self._before: dict[str, Line] = {}

    def of(self, lines: Iterable[Line]) -> list[str]:
        """What there is to say: first what is over, then what is new."""
        now = {line.about: line for line in lines}
        over = [line.over for about, line in self._before.items() if line.over and about not in now]
        new = [line.text for about, line in now.items() if not line.repeats(self._before.get(about))]
        self._before = now
        return [*over, *new]


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
