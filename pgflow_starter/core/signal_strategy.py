"""`SignalStrategy`: how a worker learns of messages."""

from __future__ import annotations

from enum import StrEnum


class SignalStrategy(StrEnum):
    """How a worker learns of messages."""

    POLLING = "polling"
    NOTIFY = "notify"
