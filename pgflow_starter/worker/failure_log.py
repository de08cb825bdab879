"""`FailureLog`: tasks that fail, as log lines: a warning where they are tried again, an error where not.

One that snoozes, which is no failure, is an info.
"""

from __future__ import annotations

from contextlib import suppress

from pgflow_starter.core.definition import FlowDefinition, StepKind
from pgflow_starter.core.failure import Failure, Failures
from pgflow_starter.core.snooze import Snooze
from pgflow_starter.core.task import Outcome, OutcomeKind, Task
from pgflow_starter.core.text import one_line
from pgflow_starter.module_log import ModuleLog
from pgflow_starter.worker.poll_intervals import retry_delay


class FailureLog:
    """One worker's. Thread-safe; raises nothing, whatever somebody's log handler does."""

    def __init__(self, definition: FlowDefinition, log: ModuleLog, failures: Failures) -> None:
        self._definition = definition
        self._log = log
        self._failures = failures

    def of(self, outcome: Outcome, error: BaseException | None = None) -> Failure | None:
        """What may be said of the outcome; None of one that is no failure."""
        if outcome.kind in (OutcomeKind.COMPLETED, OutcomeKind.SNOOZED):
            return None
        return self._failures.of(outcome, error)

    def log(self, outcome: Outcome, error: BaseException | None = None) -> Failure | None:
        """Log it, where it is a failure, and return what may be said of it. On the thread that ran the task."""
        failure = self.of(outcome, error)
        if isinstance(error, Snooze) and failure is None:
            with suppress(Exception):
                self._write_snooze(outcome.task, error.seconds)
        if failure is not None:
            with suppress(Exception):
                self._write(outcome, failure)
        return failure

    def _write_snooze(self, task: Task, seconds: float) -> None:
        fields = {"run_id": str(task.run_id), "step": task.step_slug, "task_index": task.task_index}
        self._log.info(
            "step %s of run %s snoozes for %.1f s",
            self._which(task),
            task.run_id,
            seconds,
            **fields,
            attempt=task.attempt,
            snooze_seconds=seconds,
        )

    def _which(self, task: Task) -> str:
        step = self._definition.step(task.step_slug)
        is_map = step is not None and step.kind == StepKind.MAP
        return f"{task.step_slug}[{task.task_index}]" if is_map else task.step_slug

    def _write(self, outcome: Outcome, failure: Failure) -> None:
        task, step = outcome.task, self._definition.step(outcome.task.step_slug)
        assert step is not None  # a claim gives back what is another code's
        attempts, _ = self._definition.retries_of(step)
        delay = retry_delay(self._definition, step, task.attempt) if outcome.kind is OutcomeKind.FAILED else None
        fields = {
            "run_id": str(task.run_id),
            "step": task.step_slug,
            "task_index": task.task_index,
            "attempt": task.attempt,
            "max_attempts": attempts,
            "error_type": outcome.error_type,
            "error_message": failure.message or None,
            "traceback": failure.calls or None,
        }
        (self._log.error if delay is None else self._log.warning)(
            "step %s of run %s failed in attempt %d of %d, %s: %s%s",
            self._which(task),
            task.run_id,
            task.attempt,
            attempts,
            "for good" if delay is None else f"to be tried again in {delay:.1f} s",
            one_line(str(failure)),
            failure.calls and "\n" + failure.calls,
            exc_info=failure.error,
            **fields,
        )
