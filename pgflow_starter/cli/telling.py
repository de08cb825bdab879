"""Module states as sentences; times and texts, as a person is told of them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from pgflow_starter.cli.changes import Line
from pgflow_starter.core.state import MissedTicks, ModuleState, ModuleStatus, StarterStatus
from pgflow_starter.core.symptoms import TICKS_MISSED
from pgflow_starter.core.text import one_line

RUN_COLOURS = {
    "created": "cyan",
    "queued": "cyan",
    "started": "yellow",
    "completed": "green",
    "failed": "red",
    "cancelled": "red",
}
"""Of the statuses that runs, steps and tasks may have."""


def module_lines(status: StarterStatus, now: datetime) -> Iterator[Line]:
    """One for each module of which there is something to say; news with another status, or another failure."""
    for key, state in enumerate(status.modules):
        error = state.last_error
        if state.status is not ModuleStatus.PENDING or error is not None:
            says = (state.status, error and (error.phase, error.reason, error.error_type))
            yield Line(f"module {key}", module_line(state, now), state=says)


def module_line(state: ModuleState, now: datetime) -> str:
    """One line about a module."""
    words = [f"{state.module} ({state.type}): {state.status}"]
    if state.status is ModuleStatus.SUCCEEDED:
        words.append(f"attempt {state.attempts}")
    elif state.last_error is not None:
        error = state.last_error
        words.append(f"attempt {state.attempts} failed in phase {error.phase}: {error.reason} [{error.error_type}]")
    if state.next_attempt_at is not None:
        words.append(f"next attempt in {until(state.next_attempt_at, now)}")
    return ", ".join(words)


def missed_ticks(missed: MissedTicks) -> str:
    """What was missed, and where to read on."""
    first, last = (f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}" for at in (missed.first, missed.last))
    when = f"the one of {first} UTC" if first == last else f"from {first} to {last} UTC"
    ticks = f"{missed.count:,} tick{'' if missed.count == 1 else 's'} missed"
    return f"{ticks}, {when}: {missed.reason}; see {TICKS_MISSED.place}"


def visible(text: str) -> str:
    """The text without what would move a terminal's cursor or change its colours: it may be anybody's."""
    return "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in text)


def first_line(error: str) -> str:
    """Of an error: below it is where it was raised, for a person who looks into the database."""
    return visible(one_line(error.partition("\n")[0]))


def task_name(slug: str, index: int, of: int | None) -> str:
    """A task of a step that has so many."""
    return visible(slug) if of == 1 else f"{visible(slug)}[{index}]"


def lasting(since: datetime, now: datetime) -> str:
    """How long it was, in the largest unit of which there are two."""
    seconds = max(0.0, (now - since).total_seconds())
    for unit, name in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * unit:
            return f"{seconds // unit:.0f} {name}"
    return f"{seconds:.0f} s"


def tasks_done(tasks: int | None, remaining: int | None) -> str:
    """How many of a step's tasks are done; nothing while that is not known."""
    return "" if tasks is None or remaining is None else f"{tasks - remaining} of {tasks}"


def until(moment: datetime, now: datetime) -> str:
    """How long it is until then, in seconds."""
    return f"{max(0.0, (moment - now).total_seconds()):.1f} s"


def summary(status: StarterStatus) -> str:
    """One line about all modules, once all are terminal."""
    succeeded = sum(state.status is ModuleStatus.SUCCEEDED for state in status.modules)
    failed = len(status.modules) - succeeded
    return f"ready: {succeeded} of {len(status.modules)} modules succeeded" + (
        f", {failed} failed permanently" if failed else ""
    )
