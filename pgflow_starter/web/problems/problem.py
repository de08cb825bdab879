"""`Problem`: one thing that is wrong, with what to do; and `Seen`, what problems are found in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Literal, NamedTuple, TypeAlias

from pgflow_starter.core.json_ready import JsonReady
from pgflow_starter.core.state import StarterStatus, WorkerState
from pgflow_starter.core.symptoms import symptom_of
from pgflow_starter.core.text import one_line
from pgflow_starter.core.views import Failing, FlowQueue, WorkerRow

NAMED = 3
"""Modules that are named, of many with the same problem."""

DONE_WITHIN = 120.0

DENIED = symptom_of("42501")
"""What an error is about that says that the role may not."""

Severity: TypeAlias = Literal["bad", "warn"]


@dataclass(frozen=True, slots=True)
class Problem(JsonReady):
    """One thing that is wrong. `next` is one sentence; `link` leads to a run, flow, module or queue; `more` into the
    documentation."""

    kind: str
    severity: Severity
    title: str
    detail: str
    since: datetime | None
    next: str
    link: Mapping[str, str] | None
    more: str | None


class Seen(NamedTuple):
    """What the problems are found in. `unseen`: why the database, or a part of it, could not be looked into; what that
    last told, at `unseen_since`, is not counted then, and `sees_runs` or `sees_queues` is not so. `queues_at`: when the
    queues were looked at; `done`: by queue, how many of its messages were done in the last `DONE_WITHIN` seconds."""

    now: datetime
    status: StarterStatus
    workers: Sequence[WorkerState] = ()
    queues: Sequence[FlowQueue] = ()
    rows: Sequence[WorkerRow] = ()
    failing: Failing = Failing()
    unseen: str | None = None
    unseen_since: datetime | None = None
    queues_at: datetime | None = None
    done: Mapping[str, int] = MappingProxyType({})
    sees_runs: bool = False
    sees_queues: bool = False


def named(names: Sequence[str]) -> str:
    """The first of them, and how many more there are."""
    more = len(names) - NAMED
    shown = ", ".join(one_line(name, 60) for name in names[:NAMED])
    return shown + (f" and {more} more" if more > 0 else "")


def lasting(seconds: float) -> str:
    """As a person says it."""
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
