"""Flows of which each step has a queue, as another runtime compiled them: we work in them as in any other."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

import pgflow_starter as pgflow
from pgflow_starter.clock import SystemClock
from pgflow_starter.core.modules import definition_of
from pgflow_starter.core.task import Claimed, Outcome, OutcomeKind
from pgflow_starter.postgres.stores.flows import PostgresFlowStore, compile_flow
from pgflow_starter.postgres.stores.tasks import PostgresTaskStore
from pgflow_starter.worker.claim_troubles import ClaimTroubles
from tests.cores.by_steps import QUEUES, SLUG, STEPS, compiled, shop, waiting
from tests.cores.stand_in import Admin, attempts, claim_and_die, cron, start_tasks
from tests.support.database import NoScope, opened
from tests.support.starters import STRATEGIES, echo_job, running
from tests.support.waiting import eventually

WAIT = 20.0
QUICK = {"heartbeat_interval": 0.1, "stale_threshold": 0.3, "recovery_interval": 0.1}
# Nothing is found in these tests unless somebody is told of it.
SELDOM = {"min_poll_interval": 300.0, "max_poll_interval": 300.0, "notify_fallback_interval": 600.0}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_it_is_registered_and_runs_with_retries_and_is_verified_as_it_was(
    queues_database: str, by_steps: Admin, strategy: str
) -> None:
    flow, calls = shop()
    with running(queues_database, flows=[flow], signal_strategy=strategy) as starter:
        starter.await_ready(WAIT)
        runs = [starter.client.start_flow(flow, [1, 2, n]) for n in range(3, 8)]
        assert [run.wait(WAIT).result for run in runs] == [6 + 2 * n for n in range(3, 8)]
        eventually(lambda: waiting(by_steps) == [0, 0, 0])
        eventually(lambda: [(w.failed, w.failed_by_step) for w in starter.workers()] == [(5, {"price": 5})])
        assert [w.trouble for w in starter.workers()] == [None]
        told = [(queue.flow_slug, queue.step, queue.depth.queue) for queue in starter.views.queues(patience=WAIT)]
        assert told == [(SLUG, step, queue) for step, queue in zip(STEPS, QUEUES, strict=True)]
    assert calls == {"lines": 5, "price": 20, "total": 5}
    assert by_steps.execute("select queue_name from pgmq.meta order by 1").fetchall() == [(q,) for q in QUEUES]
    assert compiled(by_steps) == "verified"
    assert compiled(by_steps, "flow") == "mismatch"


def test_a_flow_beside_it_that_nobody_compiled_gets_one_queue_of_its_own_name(
    queues_database: str, by_steps: Admin
) -> None:
    flow, job = shop().flow, echo_job()
    with running(queues_database, flows=[flow], jobs=[job]) as starter:
        assert starter.client.enqueue(job, 7).wait(WAIT).result == 7
        assert starter.client.start_flow(flow, []).wait(WAIT).status == "completed"
    modes = by_steps.execute("select flow_slug, queue_mode from pgflow.flows order by 1").fetchall()
    assert modes == [("echo", "flow"), (SLUG, "step")]


def test_who_compiles_while_another_does_by_steps_makes_no_queue_beside_these(queues_database: str) -> None:
    flow = shop().flow
    with (
        psycopg.connect(queues_database) as another,
        psycopg.connect(queues_database, autocommit=True) as ours,
        psycopg.connect(queues_database, autocommit=True) as admin,
    ):
        another.execute("select pg_advisory_xact_lock(1, hashtext(%s))", (SLUG,))  # as a real core compiles
        assert compiled(another) == "compiled"
        thread = threading.Thread(target=lambda: compile_flow(ours, definition_of(flow)))
        thread.start()
        try:
            waits = "select wait_event_type from pg_stat_activity where pid = %s"
            eventually(lambda: admin.execute(waits, (ours.info.backend_pid,)).fetchone() == ("Lock",))
            another.commit()
        finally:
            thread.join(WAIT)
        assert admin.execute("select queue_name from pgmq.meta order by 1").fetchall() == [(q,) for q in QUEUES]


def _by_another(admin: Admin, step: str, outputs: Sequence[str]) -> UUID:
    """Another runtime's worker starts a run and completes its tasks of that step, all of which nobody is told."""
    worker = uuid4()
    with admin.transaction():
        admin.execute("insert into pgflow.workers values (%s, %s, 'theirs')", (worker, f"{SLUG}__{step}"))
        row: Any = admin.execute("select run_id from pgflow.start_flow(%s, '[5]')", (SLUG,)).fetchone()
        given = {"slug": SLUG, "queue": f"{SLUG}__{step}", "step": step, "worker": worker}
        found = admin.execute(f"select t.* from pgmq.read(%(queue)s, 9, 9) m, {start_tasks(admin)}".encode(), given)
        assert len(found.fetchall()) == len(outputs)
        for index, output in enumerate(outputs):
            admin.execute("select pgflow.complete_task(%s, %s, %s, %s)", (row[0], step, index, output))
    return UUID(str(row[0]))


@pytest.mark.parametrize("connected", [False, True])
def test_what_begins_later_is_hidden_in_the_queue_of_its_step(
    queues_database: str, by_steps: Admin, connected: bool
) -> None:
    by_steps.execute("select pgmq.create(%s)", (SLUG,))  # nobody's, of the flow's name
    with pgflow.PgflowClient(queues_database) as client, psycopg.connect(queues_database) as connection:
        for _ in range(2):
            client.start_flow(SLUG, [1], delay=3600, connection=connection if connected else None)
        client.start_flow(SLUG, [2])
        connection.commit()
    hidden = "select count(*) filter (where vt > now() + interval '3000 s') from pgmq.q_" + QUEUES[0]
    assert waiting(by_steps) == [3, 0, 0]
    assert by_steps.execute(hidden.encode()).fetchone() == (2,)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_who_polls_seldom_takes_from_each_queue_what_becomes_due(
    queues_database: str, by_steps: Admin, strategy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ClaimTroubles, "heed", lambda self, evidence: False)  # no message is found to lie about
    flow = shop().flow
    with running(queues_database, flows=[flow], signal_strategy=strategy, **SELDOM) as starter:
        starter.await_ready(WAIT)
        later = starter.client.start_flow(flow, [2], delay=1)
        assert starter.client.start_flow(flow, [3]).wait(WAIT).result == 6
        assert later.wait(WAIT).result == 4


def test_each_queue_is_listened_to(queues_database: str, by_steps: Admin) -> None:
    flow, calls = shop()
    with running(queues_database, flows=[flow], signal_strategy="notify", **SELDOM) as starter:
        starter.await_ready(WAIT)
        assert starter.client.start_flow(flow, [2]).wait(WAIT).result == 4  # by the first step's
        run = starter.client.run(_by_another(by_steps, "lines", ["[5]"]))  # by the second's
        assert run.wait(WAIT).result == 10
    assert calls == {"lines": 1, "price": 2, "total": 2}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_one_that_is_compiled_anew_in_the_other_mode_goes_on_there(
    queues_database: str, by_steps: Admin, strategy: str
) -> None:
    flow, often = shop().flow, {"notify_fallback_interval": 0.1}
    with running(queues_database, flows=[flow], signal_strategy=strategy, **often) as starter:
        starter.await_ready(WAIT)
        for mode in ("flow", "step", "flow"):
            with by_steps.transaction():
                for table in ("step_tasks", "step_states", "runs", "deps", "steps", "flows"):
                    by_steps.execute(f"delete from pgflow.{table}".encode())
                by_steps.execute("select pgmq.drop_queue(queue_name) from pgmq.meta")
                assert compiled(by_steps, mode) == "compiled"
            run = starter.client.start_flow(flow, [2])
            assert run.wait(WAIT).result == 4
            starter.await_ready(WAIT)
            eventually(lambda: [w.trouble for w in starter.workers()] == [None])


@pytest.mark.parametrize("step", ["lines", "price"])
def test_a_dead_workers_tasks_get_their_next_attempt(queues_database: str, by_steps: Admin, step: str) -> None:
    flow = shop().flow
    with pgflow.PgflowClient(queues_database) as client:
        runs = [client.start_flow(flow, [3, 4]) for _ in range(2)]
        claim_and_die(by_steps, SLUG, "lines")
        if step == "price":  # of which the messages have the same ids
            for run in runs:
                by_steps.execute("select pgflow.complete_task(%s, 'lines', 0, '[3, 4]')", (run.id,))
            claim_and_die(by_steps, SLUG, "price")
        with running(queues_database, flows=[flow], **QUICK):
            assert [run.wait(WAIT).result for run in runs] == [14, 14]
    assert [attempts(by_steps, run.id) for run in runs] == [[2, 1, 1, 1] if step == "lines" else [1, 2, 2, 1]] * 2


def test_what_the_cron_gives_up_ends_as_failed(queues_database: str, by_steps: Admin) -> None:
    with pgflow.PgflowClient(queues_database) as client, opened(queues_database) as opening:
        run = client.start_flow(shop().flow, [3])
        for _ in range(7):
            claim_and_die(by_steps, SLUG, "lines")
            cron(by_steps)
            PostgresTaskStore(opening).recover_stalled([SLUG], [], 0.3)
        assert run.refresh().status == "failed"
    assert waiting(by_steps) == [0, 0, 0]


def test_what_has_not_ended_at_stop_is_given_back_in_its_own_queue(
    queues_database: str, by_steps: Admin, release: threading.Event
) -> None:
    flow, entered = pgflow.Flow(SLUG, max_attempts=2, base_delay=0, timeout=30), threading.Event()
    flow.step(slug="lines")(lambda given, ctx: given)

    @flow.map(array="lines")
    def price(line: int, ctx: pgflow.TaskContext) -> int:
        entered.set()
        release.wait()
        return line

    flow.step(slug="total", depends_on=["price"])(lambda deps, ctx: sum(deps["price"]))
    with running(queues_database, flows=[flow], shutdown_timeout=0.1) as first:
        run = first.client.start_flow(flow, [3])
        assert entered.wait(WAIT)
    row = by_steps.execute(f"select vt <= clock_timestamp() from pgmq.q_{QUEUES[1]}".encode()).fetchone()
    assert (row, attempts(by_steps, run.id)) == ((True,), [1, 0])
    release.set()
    with running(queues_database, flows=[flow]) as second:
        assert second.client.run(run.id).wait(WAIT).result == 3


def test_a_step_whose_time_is_up_gets_its_next_attempt(
    queues_database: str, by_steps: Admin, release: threading.Event
) -> None:
    by_steps.execute("update pgflow.steps set opt_timeout = 1 where step_slug = 'price'")
    flow = pgflow.Flow(SLUG, max_attempts=2, base_delay=0, timeout=30)
    flow.step(slug="lines")(lambda given, ctx: given)

    @flow.map(array="lines", timeout=1)
    def price(line: int, ctx: pgflow.TaskContext) -> int:
        if ctx.attempt == 1:
            release.wait()
        return line

    flow.step(slug="total", depends_on=["price"])(lambda deps, ctx: sum(deps["price"]))
    with running(queues_database, flows=[flow]) as starter:
        run = starter.client.start_flow(flow, [3]).wait(WAIT)
        assert run.result == 3
        release.set()
    assert attempts(by_steps, run.id) == [1, 2, 1]


def test_no_queue_waits_until_another_is_empty(queues_database: str, by_steps: Admin) -> None:
    worker, scope = uuid4(), NoScope()
    with pgflow.PgflowClient(queues_database) as client, opened(queues_database) as opening:
        flows, store = PostgresFlowStore(opening, SystemClock()), PostgresTaskStore(opening)
        found = flows.compile(definition_of(shop().flow), scope)
        assert (found.created, found.queues) == (False, QUEUES)
        flows.register_workers([(worker, SLUG)], scope)
        for n in range(9):
            client.start_flow(shop().flow, [n, n])
        steps = []
        for _ in range(6):
            (task,) = store.claim(found.definition, worker, 1, scope).tasks
            steps.append(task.step_slug)
            assert not store.settle([Outcome(task, OutcomeKind.COMPLETED, "[1, 2, 3]")])
        everything = store.claim(found.definition, worker, 100, scope)
    assert steps[:1] == ["lines"]
    assert {"lines", "price"} == set(steps)
    assert {task.step_slug for task in everything.tasks} == {"lines", "price"}
    assert len({task.message for task in everything.tasks}) == everything.read
    assert len({task.msg_id for task in everything.tasks}) < everything.read


@pytest.mark.usefixtures("by_steps")
def test_one_that_is_locked_is_asked_for_no_task_until_it_is_free(
    queues_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker, scope, asked, genuine = uuid4(), NoScope(), Counter[str](), psycopg.Cursor.execute

    def execute(self: Any, query: Any, params: Any = None, **options: Any) -> Any:
        if isinstance(params, dict) and "quantity" in params:
            asked[params["queue"]] += 1
        return genuine(self, query, params, **options)

    monkeypatch.setattr(psycopg.Cursor, "execute", execute)
    with (
        pgflow.PgflowClient(queues_database) as client,
        opened(queues_database) as opening,
        psycopg.connect(queues_database) as holder,
    ):
        flows, store = PostgresFlowStore(opening, SystemClock()), PostgresTaskStore(opening)
        definition = flows.compile(definition_of(shop().flow), scope).definition
        flows.register_workers([(worker, SLUG)], scope)
        client.start_flow(shop().flow, [])

        def claimed() -> Claimed:
            return store.claim(definition, worker, 1, scope)

        holder.execute(f"lock table pgmq.q_{QUEUES[0]}".encode())
        assert [barred.step for barred in claimed().barred] == ["lines"]
        before = asked[QUEUES[0]]
        for _ in range(30):
            assert [barred.step for barred in claimed().barred] == ["lines"]
        assert (asked[QUEUES[0]], asked[QUEUES[1]]) == (before, 31)
        holder.rollback()
        assert [task.step_slug for task in eventually(lambda: claimed().tasks)] == ["lines"]
        assert not claimed().barred


def test_outcomes_are_written_beside_a_message_that_somebody_has_locked(queues_database: str, by_steps: Admin) -> None:
    worker, scope = uuid4(), NoScope()
    with (
        pgflow.PgflowClient(queues_database) as client,
        opened(queues_database) as opening,
        psycopg.connect(queues_database) as holder,
    ):
        flows, store = PostgresFlowStore(opening, SystemClock()), PostgresTaskStore(opening)
        definition = flows.compile(definition_of(shop().flow), scope).definition
        flows.register_workers([(worker, SLUG)], scope)
        client.start_flow(shop().flow, [1])
        (first,) = store.claim(definition, worker, 9, scope).tasks
        store.settle([Outcome(first, OutcomeKind.COMPLETED, "[1]")])
        client.start_flow(shop().flow, [2])
        tasks = {task.step_slug: task for task in store.claim(definition, worker, 9, scope).tasks}
        assert set(tasks) == {"lines", "price"}
        outcomes = [Outcome(task, OutcomeKind.COMPLETED, "[2]") for task in tasks.values()]
        holder.execute(f"select from pgmq.q_{QUEUES[1]} for update".encode())
        left = store.settle(outcomes, careful=True)
        assert [outcome.task for outcome in left] == [tasks["price"]]
        holder.rollback()
        assert store.settle(left) == []
    assert waiting(by_steps) == [0, 1, 1]
