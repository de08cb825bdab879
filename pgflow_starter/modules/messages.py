"""What the module actors are told: tiny frozen values. The facts stay on the module's cell, so that none is lost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Begin:
    """To itself: begin, or go on where the last incarnation ended."""


@dataclass(frozen=True, slots=True)
class PhaseReported:
    """A phase's thread has ended; its result is in `job`."""

    job: Any


@dataclass(frozen=True, slots=True)
class PhaseOverdue:
    """A phase has run for `phase_timeout`."""

    job: Any


@dataclass(frozen=True, slots=True)
class RetryDue:
    """The backoff timer of the attempt with that token fired."""

    token: int


@dataclass(frozen=True, slots=True)
class RetryNow:
    """Somebody asked for an attempt at once; the cell's `retry_wanted` says so too."""


@dataclass(frozen=True, slots=True)
class DatabaseBack:
    """The database is reachable again."""


@dataclass(frozen=True, slots=True)
class WorkerLost:
    """The module's worker died; the cell's `lost` says why."""


@dataclass(frozen=True, slots=True)
class WorkerRetired:
    """The module's worker was told to stop, and has; the cell's `retired` says why."""


@dataclass(frozen=True, slots=True)
class TroubleTurned:
    """The trouble of the module's worker has lasted for a while, or is over."""


ModuleMessage = (
    Begin
    | PhaseReported
    | PhaseOverdue
    | RetryDue
    | RetryNow
    | DatabaseBack
    | WorkerLost
    | WorkerRetired
    | TroubleTurned
)
