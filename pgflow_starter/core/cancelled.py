"""A run that somebody cancelled is told from one that failed by its error alone: its rows are those of any failure."""

from __future__ import annotations

CANCELLED = "cancelled"
"""The reason where nobody gives another; one that begins so is told as no failure."""

ON_THE_PAGE = f"{CANCELLED} on the page"


def is_cancelled(error: str, attempts_left: bool) -> bool:
    """Whether that is a reason to cancel, and not a handler's words, which may begin with anything.

    The task of a handler that fails for good has no attempt left. So may one of a run that is cancelled: then it has
    to be one of the reasons that are ours, to the letter.
    """
    return error in (CANCELLED, ON_THE_PAGE) or (attempts_left and error.startswith(CANCELLED))
