"""What the module actors are told: tiny frozen values. The facts stay on the module's cell, so that none is lost."""

from __future__ import annotations

from typing import Any, NamedTuple


class Begin:
    """To itself: begin, or go on where the last incarnation ended."""


class PhaseReported(NamedTuple):
    """A phase has ended; its result is in `job`."""

    job: Any


class PhaseOverdue(NamedTuple):
    """A phase has run for `phase_timeout`."""

    job: Any


class RetryDue(NamedTuple):
    """The backoff timer of the attempt with that token fired."""

    token: int


class CellChanged:
    """The cell says something new, or the trouble of the module's worker has lasted for a while, or is over."""


class DatabaseBack:
    """The database is reachable again."""


ModuleMessage = Begin | PhaseReported | PhaseOverdue | RetryDue | CellChanged | DatabaseBack
