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
from pgflow_starter.core.definition import FlowDefinition, StepDefinition, StepKind
from pgflow_starter.core.task import LazyJson, Outcome, OutcomeKind, Task
from pgflow_starter.postgres.stores.carrying import ENDED, Carried, carry, parameters
from pgflow_starter.postgres.stores.fast_lane.lane import FastLane
from pgflow_starter.postgres.stores.features import detect
from pgflow_starter.postgres.stores.free_runs import columns
from tests.fast_lane.flows import INPUTS, VALUES, Step, flow
from tests.fast_lane.rows import differences, rows
from tests.fast_lane.sides import SLUG, Side
from tests.support.database import NoScope

QUANTITIES = (1, 5, 20, 50, 50)
ROUNDS = 40
"""Claims and outcomes at most: what is left then is left unfinished."""

COLUMNS = "r.run_id"

SOMEBODYS = (
    '{"foreign": true}',
    '["run_id"]',
    '{"run_id": "00000000-0000-0000-0000-000000000001", "step_slug": "a0", "task_index": 0}',
    '{"run_id": "00000000-0000-0000-0000-00000000000", "step_slug": 7, "task_index": -1}',
    '{"run_id": "1", "step_slug": {}, "task_index": 99999999999}',
)
"""Messages that have no task, whatever they say."""

_QUEUED = "from pgflow.step_tasks where status = 'queued'"
DONE_BY_SOMEBODY = (
    # A task has the message of another, and what its own says is not so any more.
    f"""update pgflow.step_tasks set message_id = (select min(message_id) {_QUEUED})
    where status = 'queued' and message_id = (select max(message_id) {_QUEUED})""",
    # A run is over, and its messages still are there.
    """update pgflow.runs set status = 'failed', failed_at = now()
    where run_id = (select min(run_id::text) from pgflow.runs where status = 'started')::uuid""",
    f"""update pgmq.q_{SLUG} set headers = '{{"of": [1]}}' where mod(msg_id, 2) = 0""",
    f"update pgmq.q_{SLUG} set message = '{{}}' where mod(msg_id, 3) = 0",
)

# What is nobody's is read once: it is put aside for two seconds, and a history takes as long as the machine does.
_SHOW = f"""
update pgmq.q_{SLUG} q
set vt = clock_timestamp() + case when q.msg_id in (select message_id {_QUEUED}) then interval '-1 s' else '1 h' end
where q.msg_id in (select message_id {_QUEUED})
   or q.read_ct > 0 and q.msg_id not in (select message_id from pgflow.step_tasks
                                         where message_id is not null and status = 'started')
"""

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
        self.definition = FlowDefinition(self.slug, tuple(map(_definition, self.steps.values())), timeout=60)
        self.lane = FastLane(SystemClock())
        self.worker = UUID(int=7)
        traced = {UUID(int=1): '{"traceparent": "of one"}', UUID(int=3): '{"traceparent": "of another"}'}
        self.carried: Carried = traced if seed % 2 else {}
        self.by_lane = self.by_core = 0
        self.disturbed = False

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
                    f"select pgflow.add_step(%s, %s, %s::text[], %s, 1, %s, %s, %s{more})",
                    *(self.slug, step.slug, list(step.needs), step.attempts, step.timeout, step.delay),
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
        """What is visible and what waits for its retry or its start; both sides hand over the same."""
        quantity = self.random.choice(QUANTITIES)
        if self.rarely():
            self.both("select pgmq.send(%s, %s::jsonb)", (self.slug, self.random.choice(SOMEBODYS)))
        if self.rarely():
            self.both(self.random.choice(DONE_BY_SOMEBODY), {})
            self.disturbed = True
        found = []
        for side in (self.core, self.fast):
            side.do(_SHOW)
            claimed = side.store.claim(self.definition, self.worker, quantity, NoScope())
            found.append(claimed._replace(visible_in=None, tasks=tuple(sorted(map(_as_data, claimed.tasks)))))
            if self.disturbed:
                self._at_once(side, claimed.tasks)
        assert found[1] == found[0], f"by the lane {found[1]}, by the core {found[0]}"

    def _at_once(self, side: Side, tasks: Sequence[Task]) -> None:
        """What was left to be started singly was started a moment later, with all else that has its message."""
        side.do(
            "update pgflow.step_tasks t set started_at = o.began from (select min(started_at) as began"
            " from pgflow.step_tasks join unnest(%s::uuid[], %s::text[], %s::integer[])"
            " as o (run_id, step_slug, task_index) using (run_id, step_slug, task_index)) o"
            " where t.status = 'started' and t.message_id = any(%s) and t.started_at > o.began",
            *([task.key[n] for task in tasks] for n in range(3)),
            [task.msg_id for task in tasks],
        )

    def started(self) -> list[Task]:
        """The tasks that have no outcome yet."""
        found = self.core.do(
            "select run_id, step_slug, task_index, message_id, attempts_count from pgflow.step_tasks"
            " where status = 'started' order by message_id, run_id, step_slug, task_index"
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
            found = self.lane.settle(self.fast.conn, outcomes, self.carried)
            assert found is not None, "the fast lane is off"
            written, ended = found[1], [row[:3] for row in found[2]]
            if crashes:
                raise Crash
        common = [o for o in outcomes if id(o) in written]
        with suppress(Crash), self.core.conn.pipeline(), self.core.conn.transaction():
            for kind, function in _BY_FUNCTIONS.items():
                if part := [o for o in common if o.kind is kind]:
                    self.core.conn.execute(f"select count(t.*) from {_GIVEN}, lateral {function} t", columns(part))
            if self.carried:
                carry(self.core.conn, self.carried, [self.slug], detect(self.core.conn))
                rows = self.core.conn.execute(ENDED, parameters(self.carried)).fetchall()
                assert sorted(ended) == sorted(row[:3] for row in rows)
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


def _definition(step: Step) -> StepDefinition:
    kind = StepKind.MAP if step.is_map else StepKind.SINGLE
    return StepDefinition(step.slug, lambda given, ctx: given, kind, tuple(step.needs), timeout=step.timeout)


def _as_data(task: Task) -> Task:
    """With JSON for what handlers are given, so that tasks can be sorted, and 1 is not true."""
    flow_input = task.flow_input.data() if isinstance(task.flow_input, LazyJson) else task.flow_input
    return task._replace(input=json.dumps(task.input), flow_input=json.dumps(flow_input), waited=None)
