"""What the scheduler is told, by itself after a while or by others: tiny frozen values."""

from __future__ import annotations

from typing import NamedTuple


class Begin(NamedTuple):
    """Take up what there is, after a crash too."""


class Look(NamedTuple):
    """A tick is due, or may be: the clock may have been set."""


class Ended(NamedTuple):
    """An errand of the schedule with this key has ended."""

    key: int


class DatabaseBack(NamedTuple):
    """The database can be reached again."""
