"""`TaskContext`: what a handler learns beside its input."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import UUID

from pgflow_starter.core.task import Lazy


@dataclass(frozen=True, slots=True)
class TaskContext:
    """One execution of one task.

    `attempt` counts from 1. `deadline` is on the monotonic clock (`time.monotonic()`), in seconds. `cancelled` is set
    when the task has timed out, its run was cancelled or has failed, or its worker stops without it: a handler that
    loops should look at it and return, for nobody takes its result any more. `flow_input` is the input of the whole
    flow, in every kind of step: a copy of the task's own, which is made when it is first looked at.
    The records of `logger` carry `pgflow_run_id`, `pgflow_slug`, `pgflow_step`, `pgflow_task_index`, `pgflow_attempt`,
    and what a call is given as `extra`.
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

    if not TYPE_CHECKING:  # a type checker would take it that any name is there

        def __getattribute__(self, name: str) -> Any:
            value = object.__getattribute__(self, name)
            return value.data() if isinstance(value, Lazy) else value
