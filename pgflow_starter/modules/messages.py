"""What the module actors are told: tiny frozen values. The facts stay on the module's cell, so that none is lost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


class Begin:
    """To itself: begin, or go on where the last incarnation ended."""


@dataclass(frozen=True, slots=True)
class PhaseReported:
    """A phase has ended; its result is in `job`."""

    job: Any


@dataclass(frozen=True, slots=True)
class PhaseOverdue:
    """A phase has run for `phase_timeout`."""

    job: Any


@dataclass(frozen=True, slots=True)
class RetryDue:
    """The backoff timer of the attempt with that token fired."""

    token: int


class CellChanged:
    """The cell says something new, or the trouble of the module's worker has lasted for a while, or is over."""


class DatabaseBack:
    """The database is reachable again."""


ModuleMessage = Begin | PhaseReported | PhaseOverdue | RetryDue | CellChanged | DatabaseBack
