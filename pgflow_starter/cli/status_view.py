"""A starter's answers before a person's eyes: as a picture, and as lines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from pgflow_starter.cli.changes import Line
from pgflow_starter.cli.module_table import module_error, module_table
from pgflow_starter.cli.status_answer import Answer, WorkerLine
from pgflow_starter.cli.status_url import StatusUrl
from pgflow_starter.cli.telling import lasting, missed_ticks, module_lines
from pgflow_starter.core.state import FastLaneState, MissedTicks, ScheduleState, StarterStatus
from pgflow_starter.core.symptoms import see_outage
from pgflow_starter.core.text import one_line

_WORKER_COLOURS = {"running": "green", "draining": "yellow", "lost": "red", "stuck": "red"}
_COLOUR_OF_TROUBLE = {True: "red", False: "yellow"}
"""By whether the worker is stuck."""


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
    # What is wrong comes first: a live table that is longer than the terminal is cut below.
    parts += [module_error(m) for m in status.modules if m.last_error]
    parts += [Text(_trouble(w), style=_COLOUR_OF_TROUBLE[w.state == "stuck"]) for w in answer.workers if w.trouble]
    parts += [Text(_unstarted(s), style="red") for s in status.schedules if s.last_error is not None]
    parts += [Text(_missed(s, s.missed), style="yellow") for s in status.schedules if s.missed is not None]
    if status.modules:
        parts.append(module_table(status, answer.now))
    if answer.workers:
        parts.append(_worker_table(answer.workers))
    return Group(*parts)


def lines(url: StatusUrl, answer: Answer) -> Iterator[Line]:
    """One for where it stands, then for each module, outage, trouble and failure."""
    status = answer.status
    if status is None:
        yield Line("starter", f"{url}: the starter has ended, {answer.ended}")
        return
    yield Line("starter", _words(url, status))
    if status.outage is None:
        yield Line("outage", "the database is back", calm=True)
    else:
        words = f"the database is away: {one_line(status.outage.reason)}"
        yield Line("outage", words, state=status.outage.since)
    if status.fast_lane is not None:
        yield Line("fast lane", _fast_lane(status.fast_lane))
    yield from module_lines(status, answer.now)
    for worker in answer.workers:
        yield from _worker_lines(worker)
    for schedule in status.schedules:
        about, failed = f"schedule {schedule.name}", schedule.last_error is not None
        words = _unstarted(schedule) if failed else f"{about}: its last tick was started"
        yield Line(about, words, state=(schedule.last_tick, words), calm=not failed)
        if schedule.missed is not None:
            yield Line(f"{about}, missed", _missed(schedule, schedule.missed))


def _worker_lines(worker: WorkerLine) -> Iterator[Line]:
    name = f"worker of {worker.slug}"
    gone = worker.state in ("lost", "draining")
    yield Line(f"{name}, state", f"{name}: {worker.state}", calm=not gone)
    trouble = _trouble(worker) if worker.trouble else f"{name}: its trouble is over"
    yield Line(f"{name}, trouble", trouble, calm=not worker.trouble)
    failed = f"{name}: {worker.failed:,} attempt{'' if worker.failed == 1 else 's'} of tasks failed so far"
    yield Line(f"{name}, failed", failed, calm=not worker.failed)


def _fast_lane(state: FastLaneState) -> str:
    return f"fast lane {'on, ' if state.on else 'off: '}{state.reason}"


def _trouble(worker: WorkerLine) -> str:
    """What keeps a worker from its work, or did."""
    return f"worker of {worker.slug}: {worker.trouble}"


def _unstarted(schedule: ScheduleState) -> str:
    return f"schedule {schedule.name}: {schedule.last_error}"


def _missed(schedule: ScheduleState, missed: MissedTicks) -> str:
    return f"schedule {schedule.name}: {missed_ticks(missed)}"


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
