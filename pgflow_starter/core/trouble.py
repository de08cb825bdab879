"""`Trouble`: what keeps a worker from claiming tasks or from recording what became of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from pgflow_starter.core.json_ready import JsonReady
from pgflow_starter.errors import MISSING_STATES

LASTING = 10.0
"""Seconds for which trouble of scope all may last until its module is not ready any more."""


class TroubleKind(StrEnum):
    """What goes wrong."""

    CLAIMS_REFUSED = "claims_refused"
    OUTCOMES_REFUSED = "outcomes_refused"
    UNWRITTEN = "unwritten"
    UNSTARTED = "unstarted"
    LOCKED = "locked"
    UNKNOWN_STEP = "unknown_step"
    MESSAGES_LOST = "messages_lost"
    NOT_NOTIFIED = "not_notified"
    HIDDEN = "hidden"
    UNHEARD = "unheard"
    HANDLERS_HANG = "handlers_hang"


class TroubleScope(StrEnum):
    """Whether nothing of the module can be claimed or recorded, or some of it."""

    ALL = "all"
    SOME = "some"


@dataclass(frozen=True, slots=True)
class Trouble(JsonReady):
    """One trouble of a worker. `reason` is one line with what to do about it and no secrets; `since` is in UTC.

    `error_type` is the SQLSTATE, else the exception's class; empty where no error says so.
    """

    kind: TroubleKind
    reason: str
    since: datetime
    error_type: str
    scope: TroubleScope


HELD = "somebody holds a lock on it (see pg_locks)"

_REMEDIES = {
    "42501": "`pgflow-starter db check` says what the role has not, `db grant ROLE` prints what it needs",
    "55P03": HELD,
    **dict.fromkeys(MISSING_STATES, "something that pgflow needs is gone: `pgflow-starter db check` says what"),
}


def with_remedy(reason: str, error_type: str) -> str:
    """The reason with what can be done about an error of that type, where that is known."""
    remedy = _REMEDIES.get(error_type)
    return reason if remedy is None else f"{reason}; {remedy}"
