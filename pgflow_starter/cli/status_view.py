"""A starter's answers before a person's eyes: once, as a live table, or as a line for each change."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from pgflow_starter.cli.module_table import module_error, module_table
from pgflow_starter.cli.options import TimedLines, live_on
from pgflow_starter.cli.status_answer import Answer, WorkerLine
from pgflow_starter.cli.status_url import StatusUrl
from pgflow_starter.cli.telling import StatusChanges, lasting, module_line
from pgflow_starter.clock import Clock
from pgflow_starter.core.state import FastLaneState, StarterStatus
from pgflow_starter.core.symptoms import see_outage
from pgflow_starter.core.text import one_line

_WORKER_COLOURS = {"running": "green", "draining": "yellow", "lost": "red", "stuck": "red"}


@contextmanager
def status_view(url: StatusUrl, console: Console, clock: Clock) -> Iterator[StatusView]:
    """The view that fits the console, for the duration of the block and one thread."""
    with live_on(console) as live:
        yield _Lines(url, console, clock) if live is None else _LiveTable(url, live)


def picture(url: StatusUrl, answer: Answer) -> RenderableType:
    """All that a person wants to see of it."""
    status = answer.status
    if status is None:
        return Text.assemble(f"{url}: ", ("the starter has ended", "red"), f", {answer.ended}")
    parts: list[RenderableType] = [_headline(url, status, answer)]
    if status.outage is not None:
        since = lasting(status.outage.since, answer.now)
        said = f"the database is away for {since}: {one_line(status.outage.reason)}{see_outage()}"
        parts.append(Text(said, style="yellow"))
    if status.fast_lane is not None:
        parts.append(Text(_fast_lane(status.fast_lane)))
    if status.modules:
        parts += [module_table(status, answer.now), *(module_error(m) for m in status.modules if m.last_error)]
    if answer.workers:
        parts.append(_worker_table(answer.workers))
        stuck_or_not = {True: "red", False: "yellow"}
        parts += [Text(_trouble(w), style=stuck_or_not[w.state == "stuck"]) for w in answer.workers if w.trouble]
    return Group(*parts)


def headline(url: StatusUrl, answer: Answer) -> str:
    """Where it stands, in one line."""
    return f"{url}: the starter has ended, {answer.ended}" if answer.status is None else _words(url, answer.status)


def _fast_lane(state: FastLaneState) -> str:
    return f"fast lane {'on, ' if state.on else 'off: '}{state.reason}"


def _trouble(worker: WorkerLine) -> str:
    """What keeps a worker from its work, or did."""
    return f"worker of {worker.slug}: {worker.trouble or 'its trouble is over'}"


def _headline(url: StatusUrl, status: StarterStatus, answer: Answer) -> Text:
    line = Text(_words(url, status), style="green" if answer.well else "red")
    line.append(f", started {lasting(status.started_at, answer.now)} ago", style="default")
    return line


def _words(url: StatusUrl, status: StarterStatus) -> str:
    return f"{url}: {'ready' if status.ready else 'not ready'}, {'healthy' if status.healthy else 'not healthy'}"


def _worker_table(workers: Sequence[WorkerLine]) -> Table:
    table = Table("worker of", "state", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("running", "done", "failed", "not written"):
        table.add_column(name, justify="right")
    for w in workers:
        state = Text(w.state, style=_WORKER_COLOURS[w.state])
        numbers = (f"{w.running} of {w.slots}", f"{w.completed:,}", f"{w.failed:,}", f"{w.unwritten:,}")
        table.add_row(Text(w.slug), state, *numbers)
    return table


class _LiveTable:
    def __init__(self, url: StatusUrl, live: Live) -> None:
        self._url = url
        self._live = live
        self._last: RenderableType = Text()

    def show(self, answer: Answer) -> None:
        self._last = picture(self._url, answer)
        self._live.update(self._last, refresh=True)

    def away(self, reason: str) -> None:
        self._live.update(Group(self._last, Text(f"this is old: {reason}", style="red")), refresh=True)


class _Lines(TimedLines):
    def __init__(self, url: StatusUrl, console: Console, clock: Clock) -> None:
        super().__init__(console, clock)
        self._url = url
        self._changes = StatusChanges()
        self._troubles: dict[str, str] = {}
        self._headline = ""

    def show(self, answer: Answer) -> None:
        self._head(headline(self._url, answer))
        if answer.status is not None:
            for state in self._changes.of(answer.status):
                self.say(module_line(state, answer.now))
        for worker in answer.workers:
            if self._troubles.get(worker.slug, "") != worker.trouble:
                self._troubles[worker.slug] = worker.trouble
                self.say(_trouble(worker))

    def away(self, reason: str) -> None:
        self._head(reason)

    def _head(self, line: str) -> None:
        if line != self._headline:
            self._headline = line
            self.say(line)


StatusView = _LiveTable | _Lines
"""Shows the starter as it is now, or that nobody answered."""
