"""The least rights: they are enough for everything that a worker does."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

import pgflow_starter as pgflow
from pgflow_starter.clock import SystemClock
from pgflow_starter.core.task import Outcome, OutcomeKind
from pgflow_starter.postgres.setup.grants import grants
from pgflow_starter.postgres.stores import pgmq
from pgflow_starter.postgres.stores.flows import PostgresFlowStore
from pgflow_starter.postgres.stores.tasks import PostgresTaskStore
from tests.postgres.rights_rig import QUOTED, WORKER, Admin, compiled, failing_job, flow_of
from tests.support.commands import call
from tests.support.database import NoScope, opened
from tests.support.starters import STRATEGIES, echo_job, running


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("compiler", ["its own", "the owner's"])
def test_the_least_rights_are_enough_for_jobs_flows_maps_retries_and_failures(
    database: str, worker: str, admin: Admin, strategy: Any, compiler: str
) -> None:
    flow, job, failing = flow_of(), echo_job(), failing_job()
    if compiler != "its own":
        compiled(admin, flow, job, failing)
        pgmq.enable_notify(admin, "echo", 9999)  # a trigger is there, of another's, and another throttle
    grants(database, WORKER, apply=True)
    settings = {"heartbeat_interval": 0.2, "recovery_interval": 0.2, "stale_threshold": 1.0}
    with running(worker, flows=[flow], jobs=[job, failing], signal_strategy=strategy, **settings) as starter:
        starter.await_ready(20)
        assert {m.status for m in starter.status().modules} == {"succeeded"}
        client = starter.client
        runs = [client.start_flow(flow, {}), client.enqueue(job, 1), client.enqueue(failing, 1)]
        runs += client.enqueue_many(job, [1, 2])
        ended = [run.wait(20) for run in runs]
        assert [run.status for run in ended] == ["completed", "completed", "failed", "completed", "completed"]
        assert ended[0].output == {"total": 12}
        assert [step.status for step in ended[0].steps()] == ["completed"] * 3
        assert len(client.recent_runs()) == 5
        assert [w.trouble for w in starter.workers()] == [None] * 3
    assert admin.execute("select count(*) from pgflow.workers where deprecated_at is null").fetchone() == (0,)


def test_the_least_rights_are_enough_to_give_back_and_to_recover(database: str, worker: str, admin: Admin) -> None:
    definition = echo_job().__pgflow_definition__()
    grants(database, WORKER, apply=True)
    with opened(worker) as db, pgflow.PgflowClient(worker) as client:
        flows, tasks = PostgresFlowStore(db, SystemClock()), PostgresTaskStore(db)
        flows.compile(definition, NoScope())
        mine, dead = uuid4(), uuid4()
        flows.register_workers([(mine, "echo"), (dead, "echo")], NoScope())
        client.enqueue("echo", 1)
        task = tasks.claim(definition, mine, 10, NoScope()).tasks[0]
        tasks.heartbeat([mine])
        tasks.keep_young([mine])
        assert tasks.look([(mine, "echo")])
        assert len(tasks.started_by([mine])) == 1
        assert tasks.give_back(mine, [task])
        assert tasks.claim(definition, dead, 10, NoScope()).tasks
        admin.execute("update pgflow.workers set last_heartbeat_at = now() - interval '1 day'")
        admin.execute("update pgflow.step_tasks set queued_at = 'yesterday', started_at = 'yesterday'")
        assert tasks.recover_stalled(["echo"], [mine], 0.0) == 1
        task = tasks.claim(definition, mine, 10, NoScope()).tasks[0]
        assert tasks.settle([Outcome(task, OutcomeKind.FAILED_FOR_GOOD, "", "no")]) == []
        tasks.workers_stopped([mine])


def test_a_role_that_inherits_has_what_the_group_has(database: str, worker: str, admin: Admin) -> None:
    member = "member of odds"
    admin.execute(sql.SQL("create role {} login in role {}").format(sql.Identifier(member), sql.Identifier(WORKER)))
    try:
        grants(database, WORKER, apply=True)
        job = echo_job()
        with running(make_conninfo(database, user=member), jobs=[job]) as starter:
            starter.await_ready(10)
            assert starter.client.enqueue(job, 7).wait(10).status == "completed"
        assert call("db", "check", "--dsn", make_conninfo(database, user=member)).exit_code == 0
    finally:
        admin.execute(sql.SQL("drop owned by {r} cascade; drop role {r}").format(r=sql.Identifier(member)))


def test_an_onlooker_sees_runs_and_starts_none(database: str, worker: str, admin: Admin) -> None:
    compiled(admin, echo_job())
    admin.execute(f"grant usage on schema pgflow to {QUOTED}".encode())
    admin.execute(f"grant select on all tables in schema pgflow to {QUOTED}".encode())
    with running(database, jobs=[echo_job()]) as starter, pgflow.PgflowClient(worker) as client:
        ended = client.run(starter.client.enqueue("echo", 7).id).wait(10)
        assert (ended.output, len(ended.steps()), len(client.recent_runs())) == ({"echo": 7}, 1, 1)
        assert [run.id for run in client.runs(status="completed", flow="echo")] == [ended.id]
        assert [task.attempts for task in client.details(ended.id).tasks] == [1]
        with pytest.raises(pgflow.DatabaseError, match="permission denied"):
            client.enqueue("echo", 8)
