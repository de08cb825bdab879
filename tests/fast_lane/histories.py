"""Histories of a random flow, played through the core's functions and through the fast lane, side by side."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psycopg
from hypothesis import strategies as st

from pgflow_starter.clock import SystemClock
from pgflow_starter.core.task import Outcome, OutcomeKind, Task
from pgflow_starter.postgres.connections.connection import Connection
from pgflow_starter.postgres.stores.fast_lane.lane import FastLane

QUANTITIES = (1, 3, 10, 50)
ROUNDS = 40
"""Claims and outcomes at most: what is left then is left unfinished."""

COLUMNS = "r.run_id"


@dataclass(frozen=True)
class Step:
    """A step of a flow: `is_map`, and the steps that it depends on."""

    slug: str
    is_map: bool
    needs: Sequence[str]
    attempts: int
    delay: int


@dataclass(frozen=True)
class Side:
    """One of the two databases."""

    conn: Connection

    def do(self, query: str, *parameters: Any) -> list[Any]:
        """Its rows, if it has any."""
        cursor = self.conn.execute(query, parameters)
        return cursor.fetchall() if cursor.description else []


class Crash(Exception):  # noqa: N818 - of a history's own, caught where it is raised
    """The process died before it could commit."""


@st.composite
def flows(draw: st.DrawFn) -> list[Step]:
    """One to eight steps; a job in every third."""
    steps = list[Step]()
    for n in range(draw(st.sampled_from((1, 1, 1, 2, 3, 4, 5, 6, 8)))):
        before = [step.slug for step in steps]
        is_map = draw(st.integers(0, 2)) == 0
        most = 1 if is_map else 3
        needs = draw(st.lists(st.sampled_from(before), max_size=most, unique=True)) if before else []
        slug = f"{draw(st.sampled_from('zmwa'))}{n}"
        steps.append(Step(slug, is_map, needs, draw(st.integers(1, 3)), draw(st.sampled_from((0, 0, 0, 600)))))
    return steps


class History:
    """One history of one flow on both sides, which `draw` makes up as it goes."""

    def __init__(self, slug: str, steps: Sequence[Step], draw: Callable[..., Any], core: Side, fast: Side) -> None:
        self.slug = slug
        self.steps = {step.slug: step for step in steps}
        self.draw = draw
        self.core, self.fast = core, fast
        self.lane = FastLane(SystemClock())
        self.worker = UUID(int=7)
        self.by_lane = self.by_core = 0

    def play(self) -> None:
        """From the flow's making on."""
        for side in (self.core, self.fast):
            side.do("select pgflow.create_flow(%s, 3, 1, 60)", self.slug)
            side.do(
                "insert into pgflow.workers (worker_id, queue_name, function_name) values (%s, %s, '')"
                " on conflict (worker_id) do nothing",
                self.worker,
                self.slug,
            )
            for step in self.steps.values():
                kind = "map" if step.is_map else "single"
                side.do(
                    "select pgflow.add_step(%s, %s, %s::text[], %s, 1, null, %s, %s)",
                    *(self.slug, step.slug, list(step.needs), step.attempts, step.delay, kind),
                )
        self.start()
        for _ in range(ROUNDS):
            self.claim()
            started = self.started()
            if not started:
                return
            self.settle(started)

    def start(self) -> None:
        """Some runs, at once."""
        root_map = any(step.is_map and not step.needs for step in self.steps.values())
        run_ids = [str(UUID(int=n + 1)) for n in range(self.draw(st.integers(1, 4)))]
        array = st.lists(st.integers(0, 9), min_size=0 if self.rarely() else 1, max_size=20)
        inputs = [json.dumps(self.draw(array if root_map else st.sampled_from(({"a": 1}, None, [])))) for _ in run_ids]
        if root_map and self.rarely():
            inputs[0] = "{}"
        with self.fast.conn.transaction():
            rows = self.lane.start(self.fast.conn, self.slug, run_ids, inputs, COLUMNS)
        done = {str(row[0]) for row in rows}
        with self.core.conn.transaction():
            for run_id, text in zip(run_ids, inputs, strict=True):
                if run_id in done:
                    self.core.do("select pgflow.start_flow(%s, %s::jsonb, %s)", self.slug, text, run_id)
        for run_id, text in zip(run_ids, inputs, strict=True):
            if run_id not in done:
                self.both("select pgflow.start_flow(%s, %s::jsonb, %s)", self.slug, text, run_id)

    def claim(self) -> None:
        """By the core's functions on both sides, what is visible and what waits for its retry or its start."""
        quantity = self.draw(st.sampled_from(QUANTITIES))
        for side in (self.core, self.fast):
            side.do(
                f"update pgmq.q_{self.slug} set vt = clock_timestamp() - interval '1 s' where msg_id in"
                " (select message_id from pgflow.step_tasks where status = 'queued')"
            )
            side.do(
                "with m as materialized (select array_agg(msg_id) as ids from pgmq.read(%s, 60, %s))"
                " select count(t.*) from m, pgflow.start_tasks(%s, m.ids, %s) t",
                *(self.slug, quantity, self.slug, self.worker),
            )

    def started(self) -> list[Task]:
        """The tasks that have no outcome yet."""
        found = self.core.do(
            "select run_id, step_slug, task_index, message_id, attempts_count from pgflow.step_tasks"
            " where status = 'started' order by message_id"
        )
        return [Task(r[0], self.slug, r[1], r[2], r[3], r[4], None, None) for r in found]

    def settle(self, started: list[Task]) -> None:
        """Some of them, and now and then one twice, or one that is over."""
        tasks = self.draw(st.permutations(started))[: self.draw(st.integers(1, len(started)))]
        if self.rarely():
            tasks.append(tasks[0])
        if self.rarely():
            over = self.core.do(
                "select run_id, step_slug, task_index from pgflow.step_tasks"
                " where status <> 'started' order by 1, 2, 3 limit 1"
            )
            tasks += [Task(r[0], self.slug, r[1], r[2], 0, 1, None, None) for r in over]
        outcomes = [self.outcome(task) for task in tasks]
        written: set[int] = set()
        crashes = self.rarely()
        try:
            with self.fast.conn.transaction():
                found = self.lane.settle(self.fast.conn, outcomes)
                assert found is not None, "the fast lane is off"
                written = found[1]
                if crashes:
                    raise Crash
        except Crash:
            pass
        common = [o for o in outcomes if id(o) in written]
        try:
            with self.core.conn.transaction():
                # As the fast lane does it: first what was completed.
                for outcome in sorted(common, key=lambda o: o.kind is not OutcomeKind.COMPLETED):
                    self.by_function(self.core, outcome)
                if crashes:
                    raise Crash
        except Crash:
            return
        self.by_lane += len(common)
        for outcome in outcomes:
            if id(outcome) not in written:
                self.by_core += 1
                for side in (self.core, self.fast):
                    self.by_function(side, outcome)

    def outcome(self, task: Task) -> Outcome:
        """What may become of it."""
        if self.draw(st.integers(0, 4)) == 0:
            return Outcome(task, OutcomeKind.FAILED, error=f"no {self.draw(st.integers(0, 9))}")
        step = self.steps[task.step_slug]
        mapped = not step.is_map and any(s.is_map and task.step_slug in s.needs for s in self.steps.values())
        least = 0 if self.rarely() else 1
        array = st.lists(st.integers(0, 9), min_size=least, max_size=20)
        values: Any = st.sampled_from((None, 1, "x", {"k": [1]}, []))
        return Outcome(task, OutcomeKind.COMPLETED, json.dumps(self.draw(array if mapped and least else values)))

    def by_function(self, side: Side, outcome: Outcome) -> None:
        """Written by the core's function."""
        task, completed = outcome.task, outcome.kind is OutcomeKind.COMPLETED
        function = "complete_task(%s, %s, %s, %s::jsonb)" if completed else "fail_task(%s, %s, %s, %s)"
        said = outcome.output_json if completed else outcome.error
        side.do(f"select pgflow.{function}", task.run_id, task.step_slug, task.task_index, said)

    def both(self, query: str, *parameters: Any) -> None:
        """The same on both sides, where it may fail in the same way."""
        for side in (self.core, self.fast):
            try:
                side.do(query, *parameters)
            except psycopg.errors.RaiseException:
                continue

    def rarely(self) -> bool:
        """Once in twelve times."""
        return bool(self.draw(st.integers(0, 11)) == 0)
