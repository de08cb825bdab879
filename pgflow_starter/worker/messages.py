"""A worker's messages: tiny frozen values. The facts stay on its cell and in the database, so that none is lost."""

from __future__ import annotations

from typing import NamedTuple

from pgflow_starter.core.task import Claimed


class Polled(NamedTuple):
    """A thread has claimed tasks, or failed to."""

    claimed: Claimed | None = None
    error: BaseException | None = None


class PollDue(NamedTuple):
    """The timer of the last poll fired; stale unless it carries the newest token."""

    token: int
