"""`Snooze`: what a handler raises to have its task again later, no attempt burnt."""

from __future__ import annotations

from pgflow_starter.core.rules import is_number

LONGEST = 10 * 365 * 86_400
"""Seconds: ten years."""


class Snooze(Exception):  # noqa: N818 - a handler's word for later, no error
    """Raised in a handler: its task is visible again in that many `seconds`, from 0 to ten years, a fraction too.

    The attempt does not count: `ctx.attempt` is the same then. The slot is free at once. Raises ValueError for what is
    no such number.
    """

    def __init__(self, seconds: float) -> None:
        if not is_number(seconds) or not 0 <= seconds <= LONGEST:
            msg = f"Snooze: seconds must be a number from 0 to {LONGEST} (ten years), got {seconds!r}"
            raise ValueError(msg)
        super().__init__(seconds)
        self.seconds = float(seconds)

    def __str__(self) -> str:
        return f"the task is to be visible again in {self.seconds:g} s"
