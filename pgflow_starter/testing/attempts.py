"""`Attempts`: a worker's way of running one task, and the exception that the worker keeps to itself."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

from pgflow_starter.clock import SystemClock
from pgflow_starter.core.definition import FlowDefinition, Handler
from pgflow_starter.core.task import Outcome, Task
from pgflow_starter.errors import PayloadError
from pgflow_starter.worker.execution import execute


class Attempts:
    """Runs the tasks of one run, one after the other, on the caller's thread."""

    def __init__(self, definition: FlowDefinition) -> None:
        self.raised: BaseException | None = None
        """What the last attempt's handler raised, or the decoding of its input."""
        steps = tuple(replace(step, handler=self._recording(step.handler)) for step in definition.steps)
        self._definition = replace(definition, steps=steps)

    def run(self, task: Task) -> Outcome:
        """Call the task's handler; what became of it. KeyboardInterrupt and pytest's own outcomes go through."""
        self.raised = None
        step = self._definition.step(task.step_slug)
        assert step is not None
        deadline = SystemClock().monotonic() + self._definition.timeout_of(step)
        outcome, error = execute(step, task, deadline, threading.Event())
        if self.raised is None and isinstance(error, PayloadError):  # before the handler was called
            self.raised = error
        # A worker has SystemExit fail the task. What else is no Exception is meant for the caller of run_flow.
        if self.raised is not None and not isinstance(self.raised, Exception | SystemExit):
            raise self.raised
        return outcome

    def _recording(self, handler: Handler) -> Handler:
        def record(given: Any, ctx: Any) -> Any:
            try:
                return handler(given, ctx)
            except BaseException as error:
                self.raised = error
                # Without this frame the error's text is the one that a worker stores.
                error.__traceback__ = error.__traceback__ and error.__traceback__.tb_next
                raise

        return record
