"""Claims are made as the core there is takes them, and registration says so where it takes none."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any
from uuid import uuid4

import psycopg
import pytest

import pgflow_starter as pgflow
from pgflow_starter.clock import SystemClock
from pgflow_starter.core.modules import definition_of
from pgflow_starter.postgres.stores.features import detect
from pgflow_starter.postgres.stores.flows import PostgresFlowStore
from pgflow_starter.postgres.stores.tasks import PostgresTaskStore
from tests.cores.stand_in import CORES, Admin, attempts, cores_since, upgrade
from tests.support.database import NoScope, opened
from tests.support.starters import await_state, echo_job, running
from tests.support.waiting import eventually

WAIT = 20.0
SEND = "select count(*) from pgmq.send_batch('echo', array_fill('{\"foreign\": true}'::jsonb, array[%s]))"
BLOCKED = "select exists (select from pg_stat_activity where pg_blocking_pids(pid) <> '{}')"


def _left_alone(admin: Admin) -> bool:
    return admin.execute("select from pgmq.q_echo where vt <= clock_timestamp()").fetchone() is None


def test_messages_of_nobody_among_real_ones_are_put_aside(database: str, admin: Admin) -> None:
    job = echo_job()
    with running(database, jobs=[job]) as starter:
        starter.await_ready(WAIT)
        admin.execute(SEND, (300,))
        assert [starter.client.enqueue(job, n).wait(WAIT).result for n in range(5)] == list(range(5))
        eventually(lambda: _left_alone(admin))


def test_tasks_that_somebody_has_locked_keep_no_other_from_being_claimed(database: str, admin: Admin) -> None:
    job = echo_job()
    with running(database, jobs=[job]) as starter, psycopg.connect(database) as holder:
        starter.await_ready(WAIT)
        with psycopg.connect(database) as connection:
            locked = starter.client.enqueue(job, "locked", connection=connection)
            connection.execute("update pgmq.q_echo set vt = clock_timestamp() + interval '1 hour'")
        holder.execute("select from pgflow.step_tasks where run_id = %s for update", (locked.id,))
        admin.execute("update pgmq.q_echo set vt = clock_timestamp()")
        assert starter.client.enqueue(job, "free").wait(WAIT).result == "free"
        holder.rollback()
        assert locked.wait(WAIT).result == "locked"
    assert attempts(admin, locked.id) == [1]


def test_a_core_whose_claim_nobody_here_can_call_is_permanent_and_names_the_upgrade(
    database: str, admin: Admin
) -> None:
    admin.execute(
        "do $$ declare f regprocedure; begin"
        " for f in select oid from pg_proc where pronamespace = 'pgflow'::regnamespace and proname = 'start_tasks' loop"
        "  execute format('drop function %s', f);"
        " end loop; end $$"
    )
    admin.execute("create function pgflow.start_tasks(flow_slug text, claim jsonb) returns void language sql as ''")
    job = echo_job()
    with running(database, jobs=[job]) as starter:
        ended = await_state(starter, job, lambda s: s.status is pgflow.ModuleStatus.FAILED_PERMANENT)
    assert ended.last_error is not None
    assert "start_tasks(flow_slug, claim): upgrade pgflow-starter" in ended.last_error.reason


@pytest.mark.parametrize(
    "defaults", ["more text default null", "more integer default 1, still_more jsonb default '{}'"]
)
def test_a_claim_that_takes_more_of_what_has_defaults_is_called_as_ever(
    database: str, admin: Admin, defaults: str
) -> None:
    row = admin.execute(
        "select array_to_string(proargnames[1:pronargs], ','), oid::regprocedure::text, pg_get_function_arguments(oid)"
        " from pg_proc where oid::regproc::text = 'pgflow.start_tasks'"
    ).fetchone()
    assert row is not None
    names, signature, arguments = row
    admin.execute(f"create schema aside; alter function {signature} set schema aside".encode())
    admin.execute(
        f"create function pgflow.start_tasks({arguments}, {defaults}) returns setof pgflow.step_task_record"
        f" language sql as $$ select * from aside.start_tasks({names}) $$".encode()
    )
    job = echo_job()
    with running(database, jobs=[job]) as starter:
        assert starter.client.enqueue(job, 7).wait(WAIT).result == 7


@pytest.mark.parametrize("core", CORES[:1], indirect=True)
@pytest.mark.parametrize("newer", cores_since("0.14"))
def test_the_first_claim_after_an_upgrade_is_made_as_the_new_core_takes_it(database: str, newer: str) -> None:
    worker, scope = uuid4(), NoScope()
    with pgflow.PgflowClient(database) as client, opened(database) as opening:
        flows, store = PostgresFlowStore(opening, SystemClock()), PostgresTaskStore(opening)
        definition = flows.compile(definition_of(echo_job()), scope).definition
        flows.register_workers([(worker, "echo")], scope)
        assert store.claim(definition, worker, 1, scope).read == 0
        upgrade(database, newer)
        client.enqueue(echo_job(), 7)
        assert [task.step_slug for task in store.claim(definition, worker, 1, scope).tasks] == ["echo"]


def test_a_task_that_is_given_back_while_a_claim_is_made_has_the_attempt_that_the_database_says(
    database: str, admin: Admin
) -> None:
    worker, scope = uuid4(), NoScope()
    with pgflow.PgflowClient(database) as client, opened(database) as opening, ThreadPoolExecutor(1) as thread:
        flows, store = PostgresFlowStore(opening, SystemClock()), PostgresTaskStore(opening, fast_lane=False)
        definition = flows.compile(definition_of(echo_job()), scope).definition
        flows.register_workers([(worker, "echo")], scope)
        run = client.enqueue(echo_job(), 7)
        claim = partial(store.claim, definition, worker, 1, scope)
        assert [task.attempt for task in claim().tasks] == [1]
        with psycopg.connect(database) as giving_back:
            giving_back.execute("update pgflow.step_tasks set status = 'queued', started_at = null, attempts_count = 0")
            giving_back.execute("lock table pgflow.deps")  # which is read when tasks are started
            admin.execute("update pgmq.q_echo set vt = clock_timestamp()")
            claiming = thread.submit(claim)
            eventually(lambda: claiming.done() or admin.execute(BLOCKED).fetchone() == (True,))
        tasks = claiming.result(WAIT).tasks
        while not tasks:  # it waited for the lock for as long as it may
            admin.execute("update pgmq.q_echo set vt = clock_timestamp()")
            tasks = claim().tasks
    assert [task.attempt for task in tasks] == attempts(admin, run.id) == [1]


def test_tasks_of_a_step_that_the_code_has_not_are_left_alone_by_all_claims_but_the_first(
    database: str, admin: Admin
) -> None:
    worker, scope = uuid4(), NoScope()
    with pgflow.PgflowClient(database) as client, opened(database) as opening:
        flows, store = PostgresFlowStore(opening, SystemClock()), PostgresTaskStore(opening)
        definition = flows.compile(definition_of(echo_job()), scope).definition
        flows.register_workers([(worker, "echo")], scope)
        admin.execute("select count(*) from pgflow.add_step('echo', 'another')")
        client.enqueue_many(echo_job(), [1, 2])
        claims = [store.claim(definition, worker, 4, scope) for _ in range(2)]
    assert [claim.read for claim in claims] == [4, 0]
    assert [task.step_slug for task in claims[0].tasks] == ["echo", "echo"]
    assert claims[0].unknown == {"another"}
    visible = admin.execute("select count(*) from pgmq.q_echo where vt <= clock_timestamp() and read_ct = 1").fetchone()
    assert visible == (2,)


def test_a_step_whose_timeout_is_not_the_longest_has_its_message_invisible_for_just_so_long(
    database: str, admin: Admin
) -> None:
    flow = pgflow.Flow("two", timeout=600)
    row: list[object] = []

    @flow.step(timeout=10)
    def short(given: Any, ctx: pgflow.TaskContext) -> None:
        seconds = "extract(epoch from vt - clock_timestamp())"
        row.append(admin.execute(f"select {seconds} between 2 and 12.5 from pgmq.q_two").fetchone())

    flow.step(slug="long", depends_on=["short"])(lambda given, ctx: None)
    with running(database, flows=[flow]) as starter:
        assert starter.client.start_flow(flow).wait(WAIT).status == "completed"
    assert row == [(True,)]


def _odd(slug: str) -> pgflow.FlowDefinition:
    return pgflow.FlowDefinition(slug, (pgflow.StepDefinition(slug, lambda given, ctx: given),))


class Declared:
    """A module of one's own."""

    def __init__(self, definition: pgflow.FlowDefinition) -> None:
        self._definition = definition

    def __pgflow_definition__(self) -> pgflow.FlowDefinition:
        return self._definition


@pytest.mark.parametrize("slug", ["_first", "last_", "mid__dle"])
def test_a_slug_that_the_core_refuses_is_permanent_with_the_reason_and_runs_on_the_others(
    database: str, admin: Admin, slug: str
) -> None:
    module = Declared(_odd(slug))
    taken = admin.execute("select pgflow.is_valid_slug(%s)", (slug,)).fetchone() == (True,)
    with running(database, flows=[module]) as starter:
        ended = await_state(starter, module, lambda s: s.status.terminal)
        if taken:
            assert starter.client.start_flow(slug, 7).wait(WAIT).output == {slug: 7}
    if not taken:
        assert ended.last_error is not None
        assert f"refuses the slug {slug!r}: it takes no '_'" in ended.last_error.reason


@pytest.mark.parametrize("slug", ["_first", "last_", "mid__dle"])
def test_the_cores_from_0_17_on_refuse_it(queues_database: str, slug: str) -> None:
    with psycopg.connect(queues_database) as connection:
        assert connection.execute("select pgflow.is_valid_slug(%s)", (slug,)).fetchone() == (False,)


def test_what_there_is_is_found_out_whoever_has_its_tables_locked(database: str) -> None:
    with psycopg.connect(database) as holder, opened(database) as opening:
        before = opening.call(detect)
        for table in ("flows", "steps", "runs", "step_states", "step_tasks", "workers"):
            holder.execute(f"lock table pgflow.{table} in access exclusive mode")
        assert opening.call(detect, lock=0.1) == before
