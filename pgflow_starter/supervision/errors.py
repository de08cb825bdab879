"""What a supervisor refuses, and what it dies of."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import pykka

from pgflow_starter.errors import PgflowError


class Refusal(StrEnum):
    """Why a supervisor refused a call, in OTP's words."""

    NOT_FOUND = "not_found"
    RUNNING = "running"
    RESTARTING = "restarting"
    ALREADY_STARTED = "already_started"
    ALREADY_PRESENT = "already_present"


class SupervisionError(PgflowError):
    """A supervisor refused a call: the message says why, `reason` in a word; `ref` is the child that runs, if any."""

    def __init__(self, message: str, reason: Refusal, ref: pykka.ActorRef[Any] | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.ref = ref


class ChildStartError(PgflowError):
    """A child could not be started; `__cause__` is what it raised."""


class RestartIntensityExceededError(PgflowError):
    """A supervisor had to restart its children more often than it may; `__cause__` is the last death's reason."""
