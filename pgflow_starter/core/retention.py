"""`Retention`: how long finished runs are kept."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

LONGEST = timedelta(days=36_500)
"""The database has no time that is much longer ago."""


@dataclass(frozen=True, slots=True)
class Retention:
    """How long a run is kept after its end, by how it ended. None: for ever. Raises ValueError.

    What is older is deleted with its steps, tasks and messages, the archived ones too. Worker rows go by the longer of
    the two.
    """

    completed: timedelta | None = timedelta(days=30)
    failed: timedelta | None = timedelta(days=90)

    def __post_init__(self) -> None:
        for name, kept in (("completed", self.completed), ("failed", self.failed)):
            if kept is not None:
                _check(f"{name} of a Retention", kept)

    @property
    def workers(self) -> timedelta | None:
        """How long the row of a worker is kept after it was last heard of."""
        return None if self.completed is None or self.failed is None else max(self.completed, self.failed)


def retention_of(older_than: timedelta | Retention) -> Retention:
    """The same, where one time is for all runs. Raises ValueError."""
    if isinstance(older_than, Retention):
        return older_than
    _check("older_than", older_than)
    return Retention(older_than, older_than)


def _check(name: str, kept: object) -> None:
    if not isinstance(kept, timedelta):
        msg = f"{name} must be a datetime.timedelta, got {kept!r}"
        raise ValueError(msg)
    if not timedelta(0) <= kept <= LONGEST:
        msg = f"{name} must be from 0 to {LONGEST.days} days, got {kept}"
        raise ValueError(msg)
