"""What a page shows of the database: runs a page at a time, one run, queues, workers, what fails. Frozen snapshots."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from pgflow_starter.core.json_ready import JsonReady
from pgflow_starter.core.readings import QueueDepth
from pgflow_starter.core.run_summary import RunSummary
from pgflow_starter.core.runs import RunStatus, SkipReason, StepStatus, TaskStatus

MOST_TASKS = 500
"""Tasks of one run that are shown."""


@dataclass(frozen=True, slots=True)
class Place:
    """Behind which run the next page begins: when that began, and its id."""

    began: datetime
    run_id: UUID


@dataclass(frozen=True, slots=True)
class RunsWanted:
    """Which runs: of any of these statuses (none: of all), of a flow, that began within these times; or the one of that
    id. `after` is where the page before ended. Two that are equal want the same."""

    statuses: frozenset[RunStatus] = frozenset()
    flow: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    id: UUID | None = None
    after: Place | None = None
    limit: int = 20


@dataclass(frozen=True, slots=True)
class RunsPage:
    """Runs, the newest first. `next` is where to go on, None where that was all; a page may be short, or empty, and
    have one: so many runs were looked at, and no more."""

    runs: tuple[RunSummary, ...] = ()
    next: Place | None = None


@dataclass(frozen=True, slots=True)
class StepView(JsonReady):
    """One step of a run."""

    slug: str
    type: str
    depends_on: tuple[str, ...]
    status: StepStatus
    tasks: int | None
    remaining: int | None
    started_at: datetime | None
    ended_at: datetime | None
    reason: SkipReason | None
    error: str | None


@dataclass(frozen=True, slots=True)
class TaskView(JsonReady):
    """One task. `visible_at`: from when on it may be claimed, or claimed again; None once it has ended."""

    step: str
    index: int
    status: TaskStatus
    attempts: int
    queued_at: datetime | None
    started_at: datetime | None
    ended_at: datetime | None
    worker: UUID | None
    visible_at: datetime | None
    error: str | None
    traceback: str | None


@dataclass(frozen=True, slots=True)
class RunView:
    """One run with its steps in the flow's order, and `MOST_TASKS` of its tasks, those that failed among them;
    `more_tasks` it has besides. Input and output are JSON as text, None where they were not asked for."""

    id: UUID
    flow_slug: str
    status: RunStatus
    started_at: datetime | None
    ended_at: datetime | None
    error: str | None
    rerun_of: UUID | None
    trace_id: str | None
    steps: tuple[StepView, ...]
    tasks: tuple[TaskView, ...]
    more_tasks: int
    input: str | None = field(default=None, repr=False)
    output: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class FlowQueue:
    """A queue of a flow, or of the one `step` whose tasks it has. `archived` counts the messages that were ever done
    with, by whomever."""

    flow_slug: str
    step: str | None
    depth: QueueDepth
    archived: int


@dataclass(frozen=True, slots=True)
class WorkerRow:
    """A worker as the database knows it, of any process and runtime. `alive`: it was heard of lately, and has not said
    since that it stopped."""

    worker_id: UUID
    flow_slug: str
    function_name: str
    started_at: datetime | None
    last_heartbeat_at: datetime | None
    deprecated_at: datetime | None
    alive: bool


@dataclass(frozen=True, slots=True)
class StepFailures:
    """Runs of a flow that failed within the last hour, of one step (None: of none). `since` the first of them, `last`
    one, and `error` of that in one line, as far as it may be told."""

    flow_slug: str
    step: str | None
    failed: int
    since: datetime | None
    last: UUID
    error: str | None = None


@dataclass(frozen=True, slots=True)
class StepRetries:
    """Tasks of a step that failed and wait to be tried again; `run` has one of them, and `error` is its last."""

    flow_slug: str
    step: str
    tasks: int
    since: datetime | None
    run: UUID
    error: str | None


class Ended(NamedTuple):
    """How many of a flow's newest runs ended, and how many of these failed."""

    flow_slug: str
    ended: int
    failed: int


@dataclass(frozen=True, slots=True)
class Failing:
    """What fails in the database, the newest runs alone being looked at: a hundred that failed, two thousand of all.

    `indexed`: an index tells which runs are the newest, or there are few of them; without it there may be too many to
    look at any, then it is `blind`. `more`: so many failed within the hour that not all were looked at.
    """

    failures: tuple[StepFailures, ...] = ()
    retries: tuple[StepRetries, ...] = ()
    ended: tuple[Ended, ...] = ()
    indexed: bool = True
    more: bool = False
    blind: bool = False


@dataclass(frozen=True, slots=True)
class DoneBefore:
    """How many messages of a queue were done with, by how many `slots` of time ago; of so many slots that is known."""

    queue: str
    slots: int
    counts: Mapping[int, int]
