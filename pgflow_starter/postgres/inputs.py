"""What handlers are given: one shape, whatever the core in the database hands over."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from typing import Any
from uuid import UUID

from pgflow_starter.core.dataclass import dataclass
from pgflow_starter.core.definition import StepDefinition, StepKind
from pgflow_starter.core.task import Task
from pgflow_starter.postgres.connection import Connection

CACHED = 128
"""Runs of which the flow's input is kept."""

_ELSEWHERE = object()
_RUN_INPUTS = "select run_id, input::text from pgflow.runs where run_id = any(%s)"


class FlowInputs:
    """The flow inputs that claimed rows do not carry; read once a run, for a map's elements share it. Thread-safe."""

    def __init__(self) -> None:
        self._kept: OrderedDict[UUID, Any] = OrderedDict()
        self._lock = threading.Lock()

    def tasks(
        self, conn: Connection, queue: str, steps: dict[str, StepDefinition], rows: list[Any]
    ) -> tuple[Task, ...]:
        """The rows of a claim in the one shape that handlers see. Blocks on I/O; raises psycopg's errors.

        Where the flow's input is, each row tells: a core may be upgraded under us.
        """
        given = [_decoded(r[4]) for r in rows]
        carried = [_carried(steps.get(r[1]), g, r[5]) for r, g in zip(rows, given, strict=True)]
        inputs = self._of(conn, {r[0] for r, c in zip(rows, carried, strict=True) if c is _ELSEWHERE})
        return tuple(
            _task_of(queue, steps.get(r[1]), r, g, inputs.get(r[0]) if c is _ELSEWHERE else c)
            for r, g, c in zip(rows, given, carried, strict=True)
        )

    def _of(self, conn: Connection, needed: set[UUID]) -> dict[UUID, Any]:
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


def _carried(step: StepDefinition | None, given: Any, flow_input: str | None) -> Any:
    """The flow's input as `start_tasks` handed it over with a task, or that it did not."""
    if step is None or isinstance(given, _Unreadable):
        return None
    if flow_input is not None:
        return _decoded(flow_input)
    if step.kind == StepKind.SINGLE and "run" in given:  # the older cores' shape: no step may be called so
        return given["run"]
    return _ELSEWHERE


def _task_of(queue: str, step: StepDefinition | None, row: Any, given: Any, flow_input: Any) -> Task:
    """The flow's input, `{dependency: output}`, or the element."""
    run_id, step_slug, task_index, msg_id, _, _, attempt, headers = row
    why = next((part.why for part in (given, flow_input) if isinstance(part, _Unreadable)), None)
    if step is None or why is not None:
        return Task(run_id, queue, step_slug, task_index, msg_id, attempt, None, None, why, headers)
    if step.kind == StepKind.MAP:
        value = given
    elif step.depends_on:
        value = {k: v for k, v in given.items() if k in step.depends_on}
    else:
        value = flow_input
    return Task(run_id, queue, step_slug, task_index, msg_id, attempt, value, flow_input, None, headers)


@dataclass(frozen=True, slots=True)
class _Unreadable:
    why: str


def _decoded(text: str | None) -> Any:
    """JSON text as data. One task's input that Python cannot read must not keep the others from being claimed."""
    try:
        return None if text is None else json.loads(text)
    except (ValueError, RecursionError) as error:
        return _Unreadable(f"{type(error).__name__}: {error}")
