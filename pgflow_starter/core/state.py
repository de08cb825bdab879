"""What a starter says of itself: frozen snapshots, safe to share between threads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

from pgflow_starter.core.json_ready import JsonReady
from pgflow_starter.core.phases import Phase
from pgflow_starter.core.trouble import Trouble


class ModuleStatus(StrEnum):
    """Where a module stands; the last two are terminal."""

    PENDING = "pending"
    RETRYING = "retrying"
    SUCCEEDED = "succeeded"
    FAILED_PERMANENT = "failed_permanent"

    @property
    def terminal(self) -> bool:
        """True when nothing more happens to the module by itself."""
        return self in _TERMINAL


_TERMINAL = frozenset({ModuleStatus.SUCCEEDED, ModuleStatus.FAILED_PERMANENT})


class ModuleType(StrEnum):
    """What a module is: by its definition, or by the list that it came in where that does not say."""

    FLOW = "flow"
    JOB = "job"


class Identity(NamedTuple):
    """What the registry phase learns of a module."""

    slug: str
    type: ModuleType


class ErrorClass(StrEnum):
    """Whether trying again may help."""

    TRANSIENT = "transient"
    PERMANENT = "permanent"


@dataclass(frozen=True, slots=True)
class ModuleError(JsonReady):
    """Why an attempt failed. `reason` is one line without secrets; `error_type` the SQLSTATE or exception class."""

    error_class: ErrorClass
    phase: Phase
    reason: str
    error_type: str
    at: datetime


@dataclass(frozen=True, slots=True)
class ModuleState(JsonReady):
    """One module at one moment. `attempts` counts attempts begun; times are UTC.

    `failing_since`: when the first of the failures was that no success came after; `last_error` tells of the last.
    """

    module: str
    slug: str | None
    type: ModuleType
    status: ModuleStatus
    attempts: int
    phase: Phase | None
    last_error: ModuleError | None
    next_attempt_at: datetime | None
    updated_at: datetime
    failing_since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Outage:
    """The database is known to be away: since when, and what the last connection attempt said."""

    since: datetime
    reason: str


class FastLaneState(NamedTuple):
    """Whether statements for many tasks at once stand in for the core's functions, and why, or why not."""

    on: bool
    reason: str


class ScheduleResult(StrEnum):
    """What became of a tick: this process started its run, it was there already, or it could not be started."""

    STARTED = "started"
    THERE = "there already"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class MissedTicks(JsonReady):
    """Ticks of a schedule that no process started, and `catch_up` leaves: how many (10,000 of a gap at most), the first
    and the last, and why, as one line without secrets."""

    count: int
    first: datetime
    last: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class ScheduleState(JsonReady):
    """One schedule at one moment: what it last did, and does next. Times are UTC.

    `last_late` is how many seconds after its time the last tick was started, None where this process did not. A tick
    that failed for a reason that may pass is tried again; `last_error` is one line without secrets, and
    `last_error_type` its SQLSTATE, else the exception's class. `missed` is told until an hour after a later tick was
    started; `starting` is the tick whose start takes more than 5 s already, `failing_since` the first that failed since
    one was started.
    """

    name: str
    slug: str
    cron: str
    timezone: str
    next_at: datetime | None
    last_tick: datetime | None = None
    last_run_id: UUID | None = None
    last_result: ScheduleResult | None = None
    last_error: str | None = None
    last_late: float | None = None
    missed: MissedTicks | None = None
    starting: datetime | None = None
    last_error_type: str | None = None
    failing_since: datetime | None = None


@dataclass(frozen=True, slots=True)
class StarterStatus(JsonReady):
    """All modules and schedules at one moment. `ready_at` is the first turn to ready; `outage`: the database is away.

    `fast_lane` is None until the first worker has looked at the core.
    """

    ready: bool
    healthy: bool
    started_at: datetime
    ready_at: datetime | None
    modules: tuple[ModuleState, ...]
    outage: Outage | None = None
    fast_lane: FastLaneState | None = None
    schedules: tuple[ScheduleState, ...] = ()


@dataclass(frozen=True, slots=True)
class ChildInfo:
    """One member of the supervision tree. `restarts` counts since its supervisor began; the root has no parent."""

    id: str
    parent: str | None
    type: str
    restarts: int
    alive: bool


@dataclass(frozen=True, slots=True)
class WorkerState:
    """One worker of this process, at one moment.

    `alive`: it claims tasks, or drains; one that died is not alive until it is registered again. `running` of its
    `slots` are taken; `completed` and `failed` count the outcomes that were written since its module was first
    registered here, failed attempts each; `unwritten` ones wait for the database. `abandoned`: threads of tasks that
    were given up and have not ended. `draining`: pgflow wants it to stop. `trouble` is what keeps it from claiming or
    recording, the gravest where there are several. `failed_by_step`: the failed attempts, of each step that has any.
    """

    slug: str
    worker_id: UUID
    alive: bool
    slots: int
    running: int
    completed: int
    failed: int
    unwritten: int
    abandoned: int
    draining: bool
    trouble: Trouble | None = None
    failed_by_step: Mapping[str, int] = field(default_factory=dict, hash=False)
