"""What handlers are given: one shape, whatever the core in the database hands over."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from typing import Any, NamedTuple, TypeAlias
from uuid import UUID

from pgflow_starter.core.definition import StepDefinition, StepKind
from pgflow_starter.core.task import LazyJson, Task
from pgflow_starter.postgres.connections.connection import Connection

CACHED = 128
"""Runs of which the flow's input is kept."""

CACHED_CHARACTERS = 16_000_000
"""Characters of them all; the newest is kept however long it is."""

VERSION = "r.xmin::text || ' ' || r.ctid::text"
"""Which version of a row `r` in `pgflow.runs` it is: no other run has it, were it of the same id."""

_RUN_INPUTS = f"select r.run_id, {VERSION}, r.input::text from pgflow.runs r where r.run_id = any(%s)"  # noqa: S608 - a constant
_BY_RUN = object()
_GONE = "its run is in the database no more"


class _Unreadable(NamedTuple):
    why: str


_Text: TypeAlias = str | _Unreadable
"""JSON that Python can read, or why it cannot."""

_Key: TypeAlias = tuple[UUID, str | None]
"""A run and the VERSION of its row."""


class FlowInputs:
    """The flow inputs of claimed tasks: read, and proven to be readable, once a run. Thread-safe."""

    def __init__(self) -> None:
        self._kept: OrderedDict[_Key, _Text] = OrderedDict()
        self._characters = 0
        self._lock = threading.Lock()

    def tasks(
        self,
        conn: Connection,
        slug: str,
        steps: dict[str, StepDefinition],
        rows: list[Any],
        step_queue: str | None = None,
    ) -> tuple[Task, ...]:
        """The rows of a claim in the one shape that handlers see. Blocks on I/O; raises psycopg's errors.

        A row is run_id, step_slug, task_index, msg_id, input, the flow's input where the core hands it over, attempt,
        headers, the run's VERSION, None where the claim did not see the run, and for how many seconds the message was
        visible. Where the flow's input is, each row tells: a core may be upgraded under us.
        """
        given = [_decoded(r[4]) for r in rows]
        handed = [_handed(steps.get(r[1]), g, r[5]) for r, g in zip(rows, given, strict=True)]
        wanted: dict[_Key, str | None] = {}
        for r, h in zip(rows, handed, strict=True):
            if h is _BY_RUN:
                wanted[r[0], r[8]] = wanted.get((r[0], r[8])) or r[5]
        texts = self._of(conn, wanted)
        return tuple(
            _task_of(slug, step_queue, steps.get(r[1]), r, g, _lazy(texts[r[0], r[8]]) if h is _BY_RUN else h)
            for r, g, h in zip(rows, given, handed, strict=True)
        )

    def _of(self, conn: Connection, wanted: dict[_Key, str | None]) -> dict[_Key, _Text]:
        """The texts of these runs; the values are those that are at hand."""
        with self._lock:
            found = {key: self._kept[key] for key in wanted if key in self._kept}
        for key, text in wanted.items():
            if key not in found and text is not None:
                found[key] = self._keep(key, text)
        missing = [key for key in wanted if key not in found]
        if missing:
            rows: list[Any] = conn.execute(_RUN_INPUTS, ([run_id for run_id, _ in missing],)).fetchall()
            read = {run_id: self._keep((run_id, version), text) for run_id, version, text in rows}
            found.update((key, read.get(key[0], _Unreadable(_GONE))) for key in missing)
        return found

    def _keep(self, key: _Key, text: str) -> _Text:
        """The text once it is proven, kept where it is known whose it is."""
        proven = _decoded(text)
        kept: _Text = proven if isinstance(proven, _Unreadable) else text
        with self._lock:
            if key[1] is not None and key not in self._kept:
                self._kept[key] = kept
                self._characters += _length(kept)
                while len(self._kept) > CACHED or (self._characters > CACHED_CHARACTERS and len(self._kept) > 1):
                    self._characters -= _length(self._kept.popitem(last=False)[1])
        return kept


def _handed(step: StepDefinition | None, given: Any, flow_input: str | None) -> Any:
    """The flow's input as data that came with the task and is its own, or that all tasks of the run have one text."""
    if step is None or isinstance(given, _Unreadable):
        return None
    if step.kind == StepKind.SINGLE and flow_input is None and "run" in given:  # the older cores' shape: no step may be
        return given["run"]  # called so
    if step.kind == StepKind.SINGLE and not step.depends_on and flow_input is not None:
        return _decoded(flow_input)
    return _BY_RUN


def _task_of(
    slug: str, step_queue: str | None, step: StepDefinition | None, row: Any, given: Any, flow_input: Any
) -> Task:
    """The flow's input, `{dependency: output}`, or the element."""
    run_id, step_slug, task_index, msg_id, _, _, attempt, headers, _, waited = row
    why = next((part.why for part in (given, flow_input) if isinstance(part, _Unreadable)), None)
    if step is None or why is not None:
        return Task(run_id, slug, step_slug, task_index, msg_id, attempt, None, None, why, headers, step_queue, waited)
    if step.kind == StepKind.MAP:
        value = given
    elif step.depends_on:
        value = {k: v for k, v in given.items() if k in step.depends_on}
    else:
        value = flow_input = flow_input.data() if isinstance(flow_input, LazyJson) else flow_input
    return Task(
        run_id, slug, step_slug, task_index, msg_id, attempt, value, flow_input, None, headers, step_queue, waited
    )


def _lazy(text: _Text) -> LazyJson | _Unreadable:
    return LazyJson(text) if isinstance(text, str) else text


def _length(text: _Text) -> int:
    return len(text) if isinstance(text, str) else 0


def _decoded(text: str | None) -> Any:
    """JSON text as data. One task's input that Python cannot read must not keep the others from being claimed."""
    try:
        return None if text is None else json.loads(text)
    except (ValueError, RecursionError) as error:
        return _Unreadable(f"{type(error).__name__}: {error}")
