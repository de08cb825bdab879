"""Histories of a random flow, played through the core's functions and through the fast lane, side by side."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from random import Random
from typing import Any
from uuid import UUID

import psycopg

from pgflow_starter.clock import SystemClock
from pgflow_starter.core.task import Outcome, OutcomeKind, Task
from pgflow_starter.postgres.stores.fast_lane.lane import FastLane
from pgflow_starter.postgres.stores.free_runs import columns
from tests.fast_lane.flows import INPUTS, VALUES, flow
from tests.fast_lane.rows import differences, rows
from tests.fast_lane.sides import SLUG, Side

QUANTITIES = (1, 5, 20, 50, 50)
ROUNDS = 40
"""Claims and outcomes at most: what is left then is left unfinished."""

COLUMNS = "r.run_id"

# As the fast lane does it: first what was completed, in the order of the outcomes.
_BY_FUNCTIONS = {
    OutcomeKind.COMPLETED: "pgflow.complete_task(o.run_id, o.step_slug, o.task_index, o.text::jsonb)",
    OutcomeKind.FAILED: "pgflow.fail_task(o.run_id, o.step_slug, o.task_index, o.text)",
}
_GIVEN = """
unnest(%(runs)s::uuid[], %(steps)s::text[], %(indexes)s::integer[], %(texts)s::text[])
    with ordinality as o(run_id, step_slug, task_index, text, n)
"""


class Crash(Exception):  # noqa: N818 - of a history's own, caught where it is raised
    """The process died before it could commit."""


class History:
    """One history of one flow on both sides, the same one for the same seed."""

    def __init__(self, seed: int, core: Side, fast: Side) -> None:
        self.slug = SLUG
        self.again = f"make prove HISTORIES=1 SEED={seed}"
        self.random = random = Random(seed)
        self.core, self.fast = core, fast
        self.steps = {step.slug: step for step in flow(random, conditions=core.has_conditions)}
        self.fails = random.choice((0, 5, 20))
        self.lane = FastLane(SystemClock())
        self.worker = UUID(int=7)
        self.by_lane = self.by_core = 0

    def differences(self) -> list[str]:
        """What is not the same on both sides once it is over, and gone then."""
        try:
            self.play()
            return differences(*(rows(side.conn, self.slug) for side in (self.core, self.fast)))
        except Exception as error:
            error.add_note(f"to play it again: {self.again}")
            raise
        finally:
            self.core.clear()
            self.fast.clear()

    def play(self) -> None:
        """From the flow's making on."""
        for side in (self.core, self.fast):
            self._make(side)
        self.start()
        for _ in range(ROUNDS):
            self.claim()
            started = self.started()
            if not started:
                return
            self.settle(started)

    def _make(self, side: Side) -> None:
        with side.conn.pipeline():
            side.do("select pgflow.create_flow(%s, 3, 1, 60)", self.slug)
            side.do(
                "insert into pgflow.workers (worker_id, queue_name, function_name) values (%s, %s, '')",
                *(self.worker, self.slug),
            )
            for step in self.steps.values():
                more = "".join(f", {name} => %s" for name in step.conditions)
                side.do(
                    f"select pgflow.add_step(%s, %s, %s::text[], %s, 1, null, %s, %s{more})",
                    *(self.slug, step.slug, list(step.needs), step.attempts, step.delay),
                    *("map" if step.is_map else "single", *step.conditions.values()),
                )

    def start(self) -> None:
        """Some runs, at once."""
        root_map = any(step.is_map and not step.needs for step in self.steps.values())
        run_ids = [str(UUID(int=n + 1)) for n in range(self.random.randint(1, 4))]
        least = 0 if self.rarely() else 1
        inputs = [json.dumps(self.array(least) if root_map else self.random.choice(INPUTS)) for _ in run_ids]
        if root_map and self.rarely():
            inputs[0] = "{}"
        with self.fast.conn.transaction():
            found = self.lane.start(self.fast.conn, self.slug, run_ids, inputs, COLUMNS)
        done = {str(row[0]) for row in found}
        with self.core.conn.transaction():
            for run_id, text in zip(run_ids, inputs, strict=True):
                if run_id in done:
                    self.core.do("select pgflow.start_flow(%s, %s::jsonb, %s)", self.slug, text, run_id)
        for run_id, text in zip(run_ids, inputs, strict=True):
            if run_id not in done:
                self.both("select pgflow.start_flow(%s, %s::jsonb, %s)", (self.slug, text, run_id))

    def claim(self) -> None:
        """By the core's functions on both sides, what is visible and what waits for its retry or its start."""
        quantity = self.random.choice(QUANTITIES)
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
        most = len(started)
        tasks = self.random.sample(started, self.random.choice((most, self.random.randint(1, most))))
        if self.rarely():
            tasks.append(tasks[0])
        if self.rarely():
            over = self.core.do(
                "select run_id, step_slug, task_index from pgflow.step_tasks"
                " where status <> 'started' order by 1, 2, 3 limit 1"
            )
            tasks += [Task(r[0], self.slug, r[1], r[2], 0, 1, None, None) for r in over]
        outcomes = [self.outcome(task) for task in tasks]
        crashes = self.rarely()
        written: set[int] = set()
        with suppress(Crash), self.fast.conn.transaction():
            found = self.lane.settle(self.fast.conn, outcomes)
            assert found is not None, "the fast lane is off"
            written = found[1]
            if crashes:
                raise Crash
        common = [o for o in outcomes if id(o) in written]
        with suppress(Crash), self.core.conn.pipeline(), self.core.conn.transaction():
            for kind, function in _BY_FUNCTIONS.items():
                if part := [o for o in common if o.kind is kind]:
                    self.core.conn.execute(f"select count(t.*) from {_GIVEN}, lateral {function} t", columns(part))
            if crashes:
                raise Crash
        if crashes:
            return
        self.by_lane += len(common)
        for outcome in outcomes:
            if id(outcome) not in written:
                self.by_core += 1
                function = _BY_FUNCTIONS[outcome.kind]
                self.both(f"select count(t.*) from {_GIVEN}, lateral {function} t", columns([outcome]))

    def outcome(self, task: Task) -> Outcome:
        """What may become of it."""
        if self.fails and self.random.randrange(self.fails) == 0:
            return Outcome(task, OutcomeKind.FAILED, error=f"no {self.random.randrange(10)}")
        step = self.steps[task.step_slug]
        mapped = not step.is_map and any(s.is_map and task.step_slug in s.needs for s in self.steps.values())
        usual = mapped and not self.rarely()
        output = self.array(1) if usual else self.random.choice(VALUES)
        return Outcome(task, OutcomeKind.COMPLETED, json.dumps(output))

    def array(self, least: int) -> list[int]:
        """Of up to 20 elements, most often of a few."""
        first, most = self.random.randrange(10), self.random.choice((2, 5, 20))
        return [first + n for n in range(self.random.randint(least, most))]

    def both(self, query: str, parameters: Sequence[Any] | dict[str, Any]) -> None:
        """The same on both sides, where it may fail in the same way."""
        failed = list[type[Exception] | None]()
        for side in (self.core, self.fast):
            try:
                side.conn.execute(query, parameters)
                failed.append(None)
            except psycopg.Error as error:
                failed.append(type(error))
        assert failed[0] is failed[1], failed

    def rarely(self) -> bool:
        """Once in twelve times."""
        return self.random.randrange(12) == 0
