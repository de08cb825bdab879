"""What a worker is told: tiny frozen values. The facts stay on its cell and in the database, so that none is lost."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Poll:
    """Look into the queue now."""


@dataclass(frozen=True, slots=True)
class Wake:
    """A notification came: poll now, and once more when the throttle has passed."""


@dataclass(frozen=True, slots=True)
class PollDue:
    """The timer of the last poll fired; stale unless it carries the newest token."""

    token: int


@dataclass(frozen=True, slots=True)
class Landed:
    """A task's slot is free."""
