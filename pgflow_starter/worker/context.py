"""`TaskContext`: what a handler learns beside its input."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID


@dataclass(frozen=True, slots=True)
class TaskContext:
    """One execution of one task.

    `attempt` counts from 1. `deadline` is on the monotonic clock (`time.monotonic()`), in seconds. `cancelled` is set
    when the task has timed out or its worker stops without it: a handler that loops should look at it and return, for
    nobody takes its result any more. `flow_input` is the input of the whole flow, in every kind of step.
    """

    run_id: UUID
    flow_slug: str
    step_slug: str
    task_index: int
    attempt: int
    msg_id: int
    flow_input: Any
    deadline: float
    cancelled: threading.Event = field(repr=False)
    logger: logging.LoggerAdapter[logging.Logger] = field(repr=False)
