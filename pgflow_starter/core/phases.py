"""`Phase`: the steps of a registration, and which of them a `SignalStrategy` needs."""

from __future__ import annotations

from enum import StrEnum


class SignalStrategy(StrEnum):
    """How a worker learns of messages."""

    POLLING = "polling"
    NOTIFY = "notify"


class Phase(StrEnum):
    """The steps of a registration, in order; the last two under the notify strategy only."""

    REGISTRY = "registry"
    WORKER = "worker"
    NOTIFY_DB = "notify_db"
    NOTIFY_REGISTER = "notify_register"


def phases_of(strategy: str) -> tuple[Phase, ...]:
    """The phases that a module goes through under a signal strategy, in order."""
    every = tuple(Phase)
    return every if strategy == SignalStrategy.NOTIFY else every[:2]
