"""One flow run by `run_flow` and by a starter on the real core, and what can be seen of it, in one form."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import psycopg

import pgflow_starter as pgflow
from pgflow_starter.core.definition import FlowDefinition, Handler
from pgflow_starter.core.handlers import is_async
from pgflow_starter.core.modules import definition_of
from pgflow_starter.testing import FlowRun, run_flow
from tests.support.starters import running
from tests.testing.cases import Case

_TASKS = """
select step_slug, task_index, status, attempts_count, error_message, output::text
from pgflow.step_tasks where run_id = %s order by step_slug, task_index
"""
_STEPS = "select step_slug, status from pgflow.step_states where run_id = %s order by step_slug"


@dataclasses.dataclass(frozen=True)
class Seen:
    """A run as a user can see it; JSON is text, for the order of its keys. `calls`: what the handlers were given."""

    status: str
    output: str
    result: str
    error: str | None
    steps: list[tuple[str, str]]
    tasks: list[tuple[str, int, str, int, str | None, Any]]
    calls: list[tuple[str, int, int, str, str]]


class Watched:
    """A flow module whose handlers' calls are written down."""

    def __init__(self, case: Case) -> None:
        definition = definition_of(case.flow())
        self.calls: list[tuple[str, int, int, str, str]] = []
        steps = tuple(dataclasses.replace(s, handler=self._watched(s.handler)) for s in definition.steps)
        self._definition = dataclasses.replace(definition, steps=steps)

    def __pgflow_definition__(self) -> FlowDefinition:
        return self._definition

    def _watched(self, handler: Handler) -> Callable[[Any, pgflow.TaskContext], Any]:
        def watch(given: Any, ctx: pgflow.TaskContext) -> None:
            texts = json.dumps(given), json.dumps(ctx.flow_input)
            self.calls.append((ctx.step_slug, ctx.task_index, ctx.attempt, *texts))

        def watched(given: Any, ctx: pgflow.TaskContext) -> Any:
            watch(given, ctx)
            return handler(given, ctx)

        async def awaited(given: Any, ctx: pgflow.TaskContext) -> Any:
            watch(given, ctx)
            return await handler(given, ctx)

        return awaited if is_async(handler) else watched


def without_database(case: Case) -> Seen:
    """The case by `run_flow`."""
    flow = Watched(case)
    run = run_flow(flow, case.input)
    return Seen(
        run.status,
        json.dumps(run.output),
        json.dumps(run.result),
        run.error,
        sorted((slug, step.status) for slug, step in run.steps.items()),
        _tasks(run),
        flow.calls,
    )


def _tasks(run: FlowRun) -> list[tuple[str, int, str, int, str | None, Any]]:
    return [
        (slug, t.index, t.status, t.attempts, t.errors[-1] if t.errors else None, t.output)
        for slug, step in sorted(run.steps.items())
        for t in step.tasks
    ]


def on_the_real_core(conninfo: str, cases: list[Case]) -> dict[str, Seen]:
    """The cases by a starter, one task of a flow at a time."""
    flows = {case.slug: Watched(case) for case in cases}
    with running(conninfo, flows=list(flows.values()), max_concurrency=1, signal_strategy="notify") as starter:
        starter.await_ready(30)
        runs = {case.slug: starter.client.start_flow(flows[case.slug], case.input) for case in cases}
        ended = {slug: run.wait(30) for slug, run in runs.items()}
    with psycopg.connect(conninfo) as connection:
        return {slug: _seen(connection, run, flows[slug]) for slug, run in ended.items()}


def _seen(connection: psycopg.Connection[tuple[Any, ...]], run: pgflow.Run, flow: Watched) -> Seen:
    tasks = connection.execute(_TASKS, (run.id,)).fetchall()
    return Seen(
        run.status,
        json.dumps(run.output),
        json.dumps(run.result),
        run.error,
        [(slug, status) for slug, status in connection.execute(_STEPS, (run.id,)).fetchall()],
        [(*told, None if output is None else json.loads(output)) for *told, output in tasks],
        flow.calls,
    )
