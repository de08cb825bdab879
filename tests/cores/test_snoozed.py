"""Tasks that snooze are queued again until their time, on every core, and their attempt is not burnt."""

from __future__ import annotations

import time
from collections import defaultdict
from typing import Any
from uuid import UUID

import psycopg
import pytest

import pgflow_starter as pgflow
from pgflow_starter.clock import SystemClock
from pgflow_starter.core.task import Outcome, OutcomeKind, Task
from pgflow_starter.postgres.setup.deleting import delete_flow
from pgflow_starter.postgres.stores.tasks import PostgresTaskStore
from tests.cores.by_steps import QUEUES, SLUG, STEPS, waiting
from tests.cores.stand_in import Admin, attempts, claim_and_die, cron, make_old
from tests.support.database import opened
from tests.support.starters import STRATEGIES, echo_job, running
from tests.support.waiting import eventually

WAIT = 30.0
HOUR = 3600.0


def _stored(admin: Admin, queue: str) -> list[Any]:
    """Of each task with a message there: status, attempts, whether it looks started, seconds until it is visible."""
    return admin.execute(
        "select t.status, t.attempts_count, t.started_at is not null,"
        " extract(epoch from q.vt - clock_timestamp())::float8"
        f' from pgflow.step_tasks t join pgmq."q_{queue}" q on q.msg_id = t.message_id'
        " and q.message ->> 'step_slug' = t.step_slug order by t.message_id".encode()
    ).fetchall()


def _started(conninfo: str, admin: Admin, many: int = 1) -> list[Task]:
    """Tasks of the job `echo` that a worker has started."""
    with pgflow.PgflowClient(conninfo) as client:
        runs = client.enqueue_many(echo_job(), range(many))
    claim_and_die(admin, "echo")
    rows: Any = admin.execute("select run_id, message_id from pgflow.step_tasks").fetchall()
    messages = dict(rows)
    return [Task(run.id, "echo", "echo", 0, messages[run.id], 1, None, None) for run in runs]


def _snoozed(task: Task, seconds: float = HOUR) -> Outcome:
    return Outcome(task, OutcomeKind.SNOOZED, until=SystemClock().monotonic() + seconds)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_task_that_snoozes_begins_again_in_the_same_attempt_and_never_too_early(
    database: str, admin: Admin, strategy: str
) -> None:
    calls: dict[int, list[tuple[int, float]]] = defaultdict(list)
    flow = pgflow.Flow("naps", max_attempts=2, base_delay=0)

    @flow.map()
    def nap(item: int, ctx: pgflow.TaskContext) -> int:
        calls[item].append((ctx.attempt, time.monotonic()))
        match len(calls[item]):
            case 1:
                raise pgflow.Snooze(0.3)
            case 2:
                raise ConnectionError
            case 3:
                raise pgflow.Snooze(0)
        return item

    with running(database, flows=[flow], signal_strategy=strategy) as starter:
        run = starter.client.start_flow(flow, [1, 2, 3]).wait(WAIT)
        assert run.result == [1, 2, 3]
        eventually(lambda: [(w.completed, w.failed, w.unwritten) for w in starter.workers()] == [(3, 3, 0)])
        assert [w.trouble for w in starter.workers()] == [None]
    assert [[attempt for attempt, _ in told] for told in calls.values()] == [[1, 1, 2, 2]] * 3
    assert min(told[1][1] - told[0][1] for told in calls.values()) >= 0.3
    assert attempts(admin, run.id) == [2, 2, 2]


def test_while_it_snoozes_it_is_queued_and_nobody_takes_it_for_stalled(
    database: str, admin: Admin, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")

    @pgflow.job("later", max_attempts=1)
    def later(message: Any, ctx: pgflow.TaskContext) -> None:
        raise pgflow.Snooze(HOUR)

    with running(database, jobs=[later], max_concurrency=1) as starter:
        runs = [starter.client.enqueue(later, n) for n in range(3)]
        eventually(lambda: [row[3] > HOUR / 2 for row in _stored(admin, "later")] == [True] * 3)
        eventually(lambda: not starter.workers()[0].unwritten)
        (worker,) = starter.workers()
        assert (worker.completed, worker.failed) == (0, 0)
    make_old(admin, "later")
    cron(admin)
    with opened(database) as opening:
        assert PostgresTaskStore(opening).recover_stalled(["later"], [], 0.0) == 0
    for status, count, looks_started, seconds in _stored(admin, "later"):
        assert (status, count, looks_started) == ("queued", 0, False)
        assert HOUR - 300 < seconds <= HOUR
    lines = [r for r in caplog.records if "snoozes" in r.getMessage()]
    assert {line.levelname for line in lines} == {"INFO"}
    assert {line.__dict__["pgflow_run_id"] for line in lines} == {str(run.id) for run in runs}
    assert "later: step later of run" in lines[0].getMessage()
    assert "snoozes for 3600.0 s" in lines[0].getMessage()
    assert (lines[0].__dict__["pgflow_attempt"], lines[0].__dict__["pgflow_snooze_seconds"]) == (1, HOUR)


@pytest.mark.parametrize("fast_lane", [True, False], ids=["fast lane", "core"])
def test_many_that_snooze_beside_others_are_written_and_again_is_no_harm(
    database: str, admin: Admin, fast_lane: bool
) -> None:
    first, second, third, *rest = _started(database, admin, 20)
    outcomes = [
        Outcome(first, OutcomeKind.COMPLETED, "1"),
        Outcome(second, OutcomeKind.FAILED, error="no"),
        Outcome(third, OutcomeKind.FAILED_FOR_GOOD, error="never"),
        *map(_snoozed, rest),
    ]
    with opened(database) as opening:
        store = PostgresTaskStore(opening, fast_lane=fast_lane)
        for batch in (outcomes, outcomes[2:]):
            settled = store.settle(batch)
            assert (list(settled), settled.ignored) == ([], [])
    snoozing = [row for row in _stored(admin, "echo") if row[3] > HOUR / 2]
    assert [row[:3] for row in snoozing] == [("queued", 0, False)] * len(rest)


@pytest.mark.parametrize("what", ["run", "message"])
def test_what_somebody_has_locked_waits_and_the_others_are_written(database: str, admin: Admin, what: str) -> None:
    locked, free = _started(database, admin, 2)
    with opened(database) as opening, psycopg.connect(database) as holder:
        store = PostgresTaskStore(opening)
        if what == "run":
            holder.execute("select from pgflow.runs where run_id = %s for update", (locked.run_id,))
        else:
            holder.execute("select from pgmq.q_echo where msg_id = %s for update", (locked.msg_id,))
        left = store.settle([_snoozed(locked), _snoozed(free)], careful=what == "message")
        assert [outcome.task for outcome in left] == [locked]
        assert sorted(row[0] for row in _stored(admin, "echo")) == ["queued", "started"]
        holder.rollback()
        assert store.settle(left) == []
    assert [row[0] for row in _stored(admin, "echo")] == ["queued", "queued"]


def test_what_is_under_way_no_more_is_ignored_and_left_as_it_is(database: str, admin: Admin) -> None:
    over, another, gone = _started(database, admin, 3)
    with opened(database) as opening:
        store = PostgresTaskStore(opening)
        store.settle([Outcome(over, OutcomeKind.COMPLETED, "1")])
        told = store.settle([_snoozed(over), _snoozed(another._replace(attempt=2))])
        assert list(told) == []
        assert {outcome.task.run_id: str(why) for outcome, why in told.ignored} == {
            over.run_id: "the run is completed",
            another.run_id: "the run or the step has ended",
        }
        assert [row[0] for row in _stored(admin, "echo")] == ["started", "started"]
        delete_flow(database, "echo")
        ((_, why),) = store.settle([_snoozed(gone)]).ignored
        assert str(why) == "the run is in the database no more"


def test_of_a_step_with_a_queue_of_its_own_the_message_is_hidden_there(queues_database: str, by_steps: Admin) -> None:
    flow, seen = pgflow.Flow(SLUG, max_attempts=2, base_delay=0, timeout=30), list[UUID]()

    @flow.step()
    def lines(given: Any, ctx: pgflow.TaskContext) -> Any:
        return given

    @flow.map(array="lines")
    def price(line: int, ctx: pgflow.TaskContext) -> int:
        if ctx.run_id not in seen:
            seen.append(ctx.run_id)
            raise pgflow.Snooze(0.1)
        raise pgflow.Snooze(HOUR)

    @flow.step(depends_on=["price"])
    def total(deps: Any, ctx: pgflow.TaskContext) -> Any:
        raise AssertionError

    assert tuple(step.slug for step in flow.__pgflow_definition__().steps) == STEPS
    with running(queues_database, flows=[flow]) as starter:
        runs = [starter.client.start_flow(flow, [n]) for n in range(2)]
        eventually(lambda: [r[3] > HOUR / 2 for r in _stored(by_steps, QUEUES[1])] == [True] * 2)
        assert [row[:3] for row in _stored(by_steps, QUEUES[1])] == [("queued", 0, False)] * 2
        assert sorted(run.id for run in runs) == sorted(seen)
    assert waiting(by_steps) == [0, 2, 0]
