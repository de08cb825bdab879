"""What handlers are given: one shape, whatever the core in the database hands over."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from pgflow_starter.core.definition import StepDefinition, StepKind
from pgflow_starter.core.task import Task
from pgflow_starter.postgres.connection import Connection
from pgflow_starter.postgres.features import Features

CACHED = 128
"""Runs of which the flow's input is kept."""

_RUN_INPUTS = "select run_id, input::text from pgflow.runs where run_id = any(%s)"


class FlowInputs:
    """The flow inputs that claimed rows do not carry; read once a run, for a map's elements share it. Thread-safe."""

    def __init__(self) -> None:
        self._kept: OrderedDict[UUID, Any] = OrderedDict()
        self._lock = threading.Lock()

    def of(
        self, conn: Connection, steps: dict[str, StepDefinition], rows: list[Any], features: Features
    ) -> dict[UUID, Any]:
        """By run, for the rows of a claim. Blocks on I/O; raises psycopg's errors."""
        needed = {r[0] for r in rows if (step := steps.get(r[1])) is not None and not _carries_input(step, features)}
        with self._lock:
            found = {run: self._kept[run] for run in needed if run in self._kept}
        missing = [run for run in needed if run not in found]
        if missing:
            read: list[Any] = conn.execute(_RUN_INPUTS, (missing,)).fetchall()
            fetched: dict[UUID, Any] = {run: _decoded(text) for run, text in read}
            found.update(fetched)
            with self._lock:
                self._kept.update(fetched)
                while len(self._kept) > CACHED:
                    self._kept.popitem(last=False)
        return found


def task_of(queue: str, step: StepDefinition | None, row: Any, inputs: dict[UUID, Any], features: Features) -> Task:
    """The row in the one shape that handlers see: the flow's input, `{dependency: output}`, or the element."""
    run_id, step_slug, task_index, msg_id, *texts, attempt = row
    given, flow_input = map(_decoded, texts)
    if step is None:
        return Task(run_id, queue, step_slug, task_index, msg_id, attempt, given, None)
    if isinstance(given, _Unreadable):
        return Task(run_id, queue, step_slug, task_index, msg_id, attempt, None, None, given.why)
    if not _carries_input(step, features):
        flow_input = inputs.get(run_id)
    elif not features.flow_input:
        flow_input = given.get("run")
    if isinstance(flow_input, _Unreadable):
        return Task(run_id, queue, step_slug, task_index, msg_id, attempt, None, None, flow_input.why)
    if step.kind == StepKind.MAP:
        value = given
    elif step.depends_on:
        value = {k: v for k, v in given.items() if k in step.depends_on}
    else:
        value = flow_input
    return Task(run_id, queue, step_slug, task_index, msg_id, attempt, value, flow_input)


@dataclass(frozen=True, slots=True)
class _Unreadable:
    why: str


def _decoded(text: str | None) -> Any:
    """JSON text as data. One task's input that Python cannot read must not keep the others from being claimed."""
    try:
        return None if text is None else json.loads(text)
    except (ValueError, RecursionError) as error:
        return _Unreadable(f"{type(error).__name__}: {error}")


def _carries_input(step: StepDefinition, features: Features) -> bool:
    """Whether `start_tasks` hands the flow's input over with a task of the step."""
    if features.flow_input:
        return step.kind == StepKind.SINGLE and not step.depends_on
    return step.kind == StepKind.SINGLE
