"""`make_context`: for calling one handler alone."""

from __future__ import annotations

import threading
from typing import Any
from uuid import UUID, uuid4

from pgflow_starter.clock import SystemClock
from pgflow_starter.core.context import TaskContext
from pgflow_starter.worker.handler_log import handler_log


def make_context(
    *,
    run_id: UUID | None = None,
    flow_slug: str = "flow",
    step_slug: str = "step",
    task_index: int = 0,
    attempt: int = 1,
    flow_input: Any = None,
    timeout: float = 60.0,
) -> TaskContext:
    """A context as a worker makes it, for `handler(input, make_context())`: not cancelled, a run of its own.

    The deadline is `timeout` seconds from now; nothing enforces it. For a handler that looks at `cancelled`, set that
    event. Thread-safe.
    """
    run = uuid4() if run_id is None else run_id
    return TaskContext(
        run_id=run,
        flow_slug=flow_slug,
        step_slug=step_slug,
        task_index=task_index,
        attempt=attempt,
        msg_id=1,
        flow_input=flow_input,
        deadline=SystemClock().monotonic() + timeout,
        cancelled=threading.Event(),
        logger=handler_log(run, flow_slug, step_slug, task_index, attempt),
    )
