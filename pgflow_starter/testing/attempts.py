"""`Attempts`: a worker's way of running one task, and the exception that the worker keeps to itself."""

from __future__ import annotations

import threading
from asyncio import CancelledError
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from pgflow_starter.clock import SystemClock
from pgflow_starter.core.context import TaskContext
from pgflow_starter.core.definition import FlowDefinition
from pgflow_starter.core.handlers import is_async
from pgflow_starter.core.middleware import Middleware
from pgflow_starter.core.task import Outcome, Task
from pgflow_starter.testing.one_loop import OneLoop
from pgflow_starter.worker.execution import UnstorableOutputError, execute, execute_async


class Attempts:
    """Runs the tasks of one run, one after the other, on the caller's thread."""

    def __init__(self, definition: FlowDefinition, middleware: Sequence[Middleware]) -> None:
        self.raised: BaseException | None = None
        """What the last attempt's handler or middleware raised, or the decoding of its input."""
        self._definition = definition
        self._middleware = (self._recording, *middleware)
        self._loop = OneLoop()

    def run(self, task: Task) -> Outcome:
        """Call the task's handler; what became of it. KeyboardInterrupt and pytest's own outcomes go through."""
        self.raised = None
        step = self._definition.step(task.step_slug)
        assert step is not None
        deadline = SystemClock().monotonic() + self._definition.timeout_of(step)
        arguments = step, task, deadline, threading.Event(), self._middleware
        outcome, _ = self._loop.run(execute_async(*arguments)) if is_async(step.handler) else execute(*arguments)
        # A worker has these two fail the task, too. What else is no Exception is meant for the caller of run_flow.
        if self.raised is not None and not isinstance(self.raised, Exception | SystemExit | CancelledError):
            raise self.raised
        return outcome

    def close(self) -> None:
        """No more will be run."""
        self._loop.close()

    @contextmanager
    def _recording(self, ctx: TaskContext) -> Iterator[None]:
        """Around all others."""
        try:
            yield
        except UnstorableOutputError:
            raise
        except BaseException as error:
            self.raised = error
            raise
