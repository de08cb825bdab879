"""An outcome that the core ignored is told as such, and is no completion."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

import pgflow_starter as pgflow
from pgflow_starter.core.definition import FlowDefinition
from pgflow_starter.core.modules import definition_of
from pgflow_starter.core.task import Outcome, OutcomeKind, Settled, Task
from pgflow_starter.postgres.connections.database import Database
from pgflow_starter.postgres.setup.deleting import delete_flow
from pgflow_starter.postgres.stores.flows import PostgresFlowStore
from pgflow_starter.postgres.stores.tasks import PostgresTaskStore
from tests.cores.stand_in import Admin, claim_and_die
from tests.support.database import NoScope, opened
from tests.support.starters import echo_job, running
from tests.support.waiting import eventually

COMPLETED, FAILED, FOR_GOOD = OutcomeKind.COMPLETED, OutcomeKind.FAILED, OutcomeKind.FAILED_FOR_GOOD


def _told(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    """The level of each line about an ignored outcome, and why it was."""
    lines = [(r.levelname, r.getMessage()) for r in caplog.records if "was ignored" in r.getMessage()]
    return [(level, line.partition("was ignored: ")[2]) for level, line in lines]


def _counts(starter: pgflow.Starter) -> tuple[int, int]:
    (worker,) = starter.workers()
    return worker.completed, worker.failed


def _task(run_id: UUID, slug: str) -> Task:
    return Task(run_id, slug, slug, 0, 1, 1, None, None)


def _settle(conninfo: str, *outcomes: Outcome) -> Settled:
    with opened(conninfo) as database:
        return PostgresTaskStore(database).settle(outcomes)


def _started(conninfo: str, admin: Admin, **options: Any) -> Task:
    """A task of the job `echo` that a worker has started."""
    job = echo_job(**options)
    with pgflow.PgflowClient(conninfo) as client:
        run = client.enqueue(job)
    claim_and_die(admin, job.slug)
    return _task(run.id, job.slug)


def test_what_a_task_of_a_failed_run_comes_to_is_told_and_not_counted(
    database: str, caplog: pytest.LogCaptureFixture, release: threading.Event
) -> None:
    caplog.set_level("INFO")
    entered = threading.Event()
    flow = pgflow.Flow("pair", max_attempts=1)

    @flow.step()
    def slow(given: Any, ctx: pgflow.TaskContext) -> str:
        entered.set()
        release.wait()
        return "too late"

    @flow.step()
    def bad(given: Any, ctx: pgflow.TaskContext) -> None:
        assert entered.wait(20)
        raise LookupError

    with running(database, flows=[flow]) as starter:
        assert starter.client.start_flow(flow).wait(20).status == "failed"
        release.set()
        eventually(lambda: _told(caplog))
        assert _counts(starter) == (0, 1)
    assert _told(caplog) == [("INFO", "the run is failed")]


@pytest.mark.parametrize("kind", [COMPLETED, FAILED, FOR_GOOD])
def test_what_was_taken_is_not_told_as_ignored_nor_is_it_when_it_is_said_again(
    database: str, admin: Admin, kind: OutcomeKind
) -> None:
    outcome = Outcome(_started(database, admin), kind, error="no luck")
    for _ in range(2):
        settled = _settle(database, outcome)
        assert (list(settled), list(settled.ignored)) == ([], [])


def test_an_output_that_no_map_can_take_has_been_taken(database: str, admin: Admin) -> None:
    flow = pgflow.Flow("numbers")
    flow.step(slug="numbers")(lambda given, ctx: 1)
    flow.map("numbers", slug="each")(lambda number, ctx: number)
    with pgflow.PgflowClient(database) as client:
        run = client.start_flow(flow)
        claim_and_die(admin, "numbers")
        assert list(_settle(database, Outcome(_task(run.id, "numbers"), COMPLETED, "1")).ignored) == []
        assert run.refresh().status == "failed"


@pytest.mark.parametrize("kind", [COMPLETED, FAILED])
def test_a_task_that_somebody_has_queued_again_ignores_what_its_first_worker_says(
    database: str, admin: Admin, kind: OutcomeKind
) -> None:
    task = _started(database, admin)
    admin.execute("update pgflow.step_tasks set status = 'queued', started_at = null")
    ((outcome, why),) = _settle(database, Outcome(task, kind, error="no luck")).ignored
    assert (outcome.task, str(why), why.usual) == (task, "the task is queued", False)


@pytest.mark.parametrize("kind", [COMPLETED, FAILED])
def test_a_run_that_was_deleted_meanwhile_is_told(database: str, admin: Admin, kind: OutcomeKind) -> None:
    task = _started(database, admin)
    for table in ("step_tasks", "step_states", "runs"):
        admin.execute(f"delete from pgflow.{table}")
    ((_, why),) = _settle(database, Outcome(task, kind)).ignored
    assert str(why) == "the run is in the database no more"


@pytest.mark.parametrize("kind", [COMPLETED, FAILED])
def test_a_flow_that_is_deleted_while_an_outcome_waits_for_a_lock_is_told(
    database: str, admin: Admin, kind: OutcomeKind
) -> None:
    outcome = Outcome(_started(database, admin), kind, error="no luck")
    with opened(database) as opening, psycopg.connect(database) as holder:
        store = PostgresTaskStore(opening)
        holder.execute("select from pgflow.runs for update")  # as who deletes it does first
        (left,) = store.settle([outcome], careful=True)
        holder.rollback()
        delete_flow(database, "echo")
        ((_, why),) = store.settle([left], careful=True).ignored
    assert (str(why), why.usual) == ("the run is in the database no more", True)


@pytest.mark.parametrize("status", ["cancelled", "skipped"])
@pytest.mark.parametrize("kind", [COMPLETED, FAILED, FOR_GOOD])
def test_a_task_that_was_cancelled_or_skipped_is_told_as_such(
    cancelling_database: str, status: str, kind: OutcomeKind
) -> None:
    with psycopg.connect(cancelling_database, autocommit=True) as admin:
        task = _started(cancelling_database, admin)
        admin.execute("update pgflow.step_tasks set status = %s", (status,))
        ((_, why),) = _settle(cancelling_database, Outcome(task, kind)).ignored
        row = admin.execute("select status from pgflow.step_tasks").fetchone()
    assert (str(why), why.usual, row) == (f"the task is {status}", True, (status,))


def test_one_that_fails_the_run_ignores_those_beside_it_in_one_batch(database: str, admin: Admin) -> None:
    flow = pgflow.Flow("pair", max_attempts=1)
    flow.step(slug="a")(lambda given, ctx: 1)
    flow.step(slug="b")(lambda given, ctx: 1)
    with pgflow.PgflowClient(database) as client:
        run = client.start_flow(flow)
    claim_and_die(admin, "pair")
    a, b = (Task(run.id, "pair", step, 0, 1, 1, None, None) for step in "ab")
    _settle(database, Outcome(a, FAILED, error="no luck"))
    ((outcome, why),) = _settle(database, Outcome(b, COMPLETED), Outcome(a, FAILED, error="no luck")).ignored
    assert (outcome.task, str(why)) == (b, "the run is failed")


@pytest.mark.parametrize("kind", [FAILED, FOR_GOOD])
@pytest.mark.parametrize("many", [1, 3])
def test_an_attempt_that_another_has_followed_fails_no_other(
    database: str, admin: Admin, kind: OutcomeKind, many: int
) -> None:
    job, scope, first, second = echo_job(max_attempts=2, base_delay=0), NoScope(), uuid4(), uuid4()
    with opened(database) as opening, pgflow.PgflowClient(database) as client:
        flows, store = PostgresFlowStore(opening, opening.clock), PostgresTaskStore(opening)
        definition = flows.compile(definition_of(job), scope).definition
        flows.register_workers([(first, job.slug), (second, job.slug)], scope)
        client.enqueue_many(job, range(many))
        failed = [Outcome(task, FAILED, error="no luck") for task in store.claim(definition, first, 9, scope).tasks]
        assert store.settle(failed).ignored == []
        again = store.claim(definition, second, 9, scope).tasks
        assert [task.attempt for task in again] == [2] * many
        # Said again, for the answer was lost; and said late by who was taken for dead.
        assert store.settle([outcome._replace(kind=kind) for outcome in failed]).ignored == []
        late = store.settle([outcome._replace(kind=kind, error="late") for outcome in failed]).ignored
        assert {(str(why), why.usual, why.without_effect) for _, why in late} == {
            ("the task is started again", True, False)
        }
        assert len(late) == many
        told = admin.execute("select distinct status, attempts_count, error_message from pgflow.step_tasks").fetchall()
        assert told == [("started", 2, "no luck")]
        assert store.settle([Outcome(task, COMPLETED, "1") for task in again]).ignored == []
        assert {run.status for run in client.runs()} == {"completed"}


_GATE = """
create table gate (shut boolean);
insert into gate values (true);
create function pass_gate() returns trigger language plpgsql as $$
begin
    while exists (select from public.gate where shut) loop
        perform pg_catalog.pg_sleep(0.01);
    end loop;
    return new;
end
$$;
create trigger gate before update on pgflow.step_tasks for each row
when (new.status = 'queued' and old.task_index = 0 and old.status = 'started') execute function pass_gate();
"""


def _pair(database: Database) -> tuple[FlowDefinition, UUID]:
    """A flow of a map, and a worker of it."""
    flow, worker, scope = pgflow.Flow("pair", max_attempts=3, base_delay=0), uuid4(), NoScope()
    flow.map(slug="each")(lambda number, ctx: number)
    flows = PostgresFlowStore(database, database.clock)
    definition = flows.compile(definition_of(flow), scope).definition
    flows.register_workers([(worker, flow.slug)], scope)
    return definition, worker


def test_an_attempt_that_begins_while_the_one_before_is_said_again_is_not_failed_by_that(
    database: str, admin: Admin
) -> None:
    with opened(database) as opening, pgflow.PgflowClient(database) as client, ThreadPoolExecutor() as threads:
        definition, worker = _pair(opening)
        store = PostgresTaskStore(opening)
        client.start_flow("pair", [1, 2])
        first, second = sorted(store.claim(definition, worker, 9, NoScope()).tasks, key=lambda task: task.task_index)
        said = Outcome(second, FAILED, error="no luck")
        assert store.settle([said]).ignored == []
        admin.execute(_GATE)
        settling = threads.submit(store.settle, [Outcome(first, FAILED, error="no luck"), said])
        try:
            eventually(lambda: admin.execute("select from pg_stat_activity where wait_event = 'PgSleep'").rowcount)
            claimed = store.claim(definition, worker, 1, NoScope()).tasks
        finally:
            admin.execute("update gate set shut = false")
        assert settling.result(20).ignored == []
        claimed += store.claim(definition, worker, 9, NoScope()).tasks
        assert sorted((task.task_index, task.attempt) for task in claimed) == [(0, 2), (1, 2)]
        told = admin.execute("select distinct status, attempts_count from pgflow.step_tasks").fetchall()
        assert told == [("started", 2)]


@pytest.mark.parametrize("kind", [FAILED, FOR_GOOD])
@pytest.mark.parametrize("late", [FAILED, FOR_GOOD])
def test_of_two_attempts_at_a_task_in_one_batch_the_later_is_what_became_of_it(
    database: str, admin: Admin, late: OutcomeKind, kind: OutcomeKind
) -> None:
    with opened(database) as opening, pgflow.PgflowClient(database) as client:
        definition, worker = _pair(opening)
        store = PostgresTaskStore(opening)
        client.start_flow("pair", [1])
        (task,) = store.claim(definition, worker, 9, NoScope()).tasks
        store.settle([Outcome(task, FAILED, error="no luck")])
        (again,) = store.claim(definition, worker, 9, NoScope()).tasks
        settled = store.settle([Outcome(task, late, error="late"), Outcome(again, kind, error="no luck again")])
        assert [outcome.task for outcome, _ in settled.ignored] == [task]
        told = admin.execute("select status, error_message from pgflow.step_tasks").fetchall()
        assert told == [("queued" if kind is FAILED else "failed", "no luck again")]
