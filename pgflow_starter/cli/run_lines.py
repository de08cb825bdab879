"""A run in lines: how its steps stand, which attempts of tasks failed and of what, and what became of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pgflow_starter.cli.changes import Line
from pgflow_starter.cli.run_looks import RunSeen
from pgflow_starter.cli.telling import first_line, task_name, tasks_done, visible
from pgflow_starter.postgres.client.details import TaskRun
from pgflow_starter.postgres.client.steps import StepRun

MOST_FAILURES = 20
"""Tasks of a step that are told one by one: a map may have thousands."""


def run_lines(seen: RunSeen) -> Iterator[Line]:
    """All of them, the run's own last."""
    yield from step_lines(seen)
    run = seen.details.run
    why = f", {first_line(run.error)}" if run.error else ""
    yield Line("run", f"run {run.id} of {visible(run.flow_slug)}: {run.status}{why}")


def step_lines(seen: RunSeen) -> Iterator[Line]:
    """One for each step, then those of its tasks of which an attempt failed; and whether nobody works on them."""
    for step, tasks in _steps(seen):
        done = tasks_done(step.tasks, step.remaining)
        words = (step.status, f"{done} tasks done" if done else "", _why(step, tasks))
        yield Line(f"step {step.slug}", f"{visible(step.slug)}: {', '.join(filter(None, words))}")
        yield from _failures(step, tasks)
    yield from _workers(seen)


def failures(seen: RunSeen) -> Iterator[Line]:
    """Those of the tasks alone."""
    for step, tasks in _steps(seen):
        yield from _failures(step, tasks)


def nobody_runs(seen: RunSeen) -> str:
    """What is said of one that is alone."""
    slug = visible(seen.details.run.flow_slug)
    return f"nobody runs it: no worker of {slug} is alive; start a starter that has it"


def _workers(seen: RunSeen) -> Iterator[Line]:
    if seen.alone:
        yield Line("workers", nobody_runs(seen))
    elif seen.workers is not None:
        yield Line("workers", f"a worker of {visible(seen.details.run.flow_slug)} is alive", calm=True)


def _steps(seen: RunSeen) -> Iterator[tuple[StepRun, list[TaskRun]]]:
    tasks: dict[str, list[TaskRun]] = {step.slug: [] for step in seen.details.steps}
    for task in seen.details.tasks:
        tasks[task.step_slug].append(task)
    return ((step, tasks[step.slug]) for step in seen.details.steps)


def _why(step: StepRun, tasks: Sequence[TaskRun]) -> str:
    """Why it was skipped, or failed without a task that tells."""
    if step.reason is not None:
        return step.reason.replace("_", " ")
    told = any(task.status == "failed" and task.error for task in tasks)
    return first_line(step.error) if step.status == "failed" and step.error and not told else ""


def _failures(step: StepRun, tasks: Sequence[TaskRun]) -> Iterator[Line]:
    failed = [task for task in tasks if task.error is not None and task.status != "cancelled"]
    for task in failed[:MOST_FAILURES]:
        text = _failure(task, task.error or "", step.tasks)
        # Which are the first changes while others fail, or are cancelled.
        yield Line(f"task {step.slug} {task.index}", text, lasting=True)
    if (more := len(failed) - MOST_FAILURES) > 0:
        yield Line(f"more of {step.slug}", f"{visible(step.slug)}: {more:,} more tasks of which attempts failed")


def _failure(task: TaskRun, error: str, of: int | None) -> str:
    """The last attempt that failed, in the same words while it is tried again and when that went well."""
    for_good = task.status == "failed"
    attempt = task.attempts if for_good or task.status == "queued" else task.attempts - 1
    failed = f"attempt {attempt} failed"
    if for_good:
        failed = f"failed for good in attempt {attempt}"
    if attempt < 1:
        failed = "failed"  # cancelled before it had any
    return f"{task_name(task.step_slug, task.index, of)}: {failed}: {first_line(error)}"
