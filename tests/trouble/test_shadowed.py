"""Our own statements, in sessions whose path leads into a schema where somebody has planted look-alikes."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import timedelta
from queue import SimpleQueue
from typing import Any, cast
from uuid import UUID, uuid4

import psycopg
import pytest
from opentelemetry.sdk.trace import TracerProvider

import pgflow_starter as pgflow
from pgflow_starter.clock import SystemClock
from pgflow_starter.core.modules import definition_of
from pgflow_starter.core.task import Outcome, OutcomeKind
from pgflow_starter.core.views import RunsWanted
from pgflow_starter.errors import MissingRightsError
from pgflow_starter.postgres.client.calls import Calls
from pgflow_starter.postgres.client.first_messages import set_headers
from pgflow_starter.postgres.client.removals import count_due, prune_runs
from pgflow_starter.postgres.connections.backend_budget import BackendBudget
from pgflow_starter.postgres.connections.connection import Backend, Session, server_limits
from pgflow_starter.postgres.connections.database import Database
from pgflow_starter.postgres.stores import forgetting, needs, pgmq, queues, refusals, rights
from pgflow_starter.postgres.stores.barred_queues import BarredQueues
from pgflow_starter.postgres.stores.claiming import Messages
from pgflow_starter.postgres.stores.fast_lane.lane import PLANS
from pgflow_starter.postgres.stores.features import detect
from pgflow_starter.postgres.stores.flows import PostgresFlowStore
from pgflow_starter.postgres.stores.queue_depths import PostgresQueueDepths
from pgflow_starter.postgres.stores.queues import Queue
from pgflow_starter.postgres.stores.run_ends import PostgresRunEnds
from pgflow_starter.postgres.stores.schedules import PostgresScheduleStore
from pgflow_starter.postgres.stores.tasks import PostgresTaskStore
from tests.support.database import NoScope, opened
from tests.support.planted import caught, functions_in, plant
from tests.support.starters import STRATEGIES, echo_job, running
from tests.support.statements import recorded
from tests.trouble.conftest import Admin
from tests.trouble.shadows import MODULES, shadows, unseen

WAIT = 30.0
OLD_FASHIONED = "-c standard_conforming_strings=off"
ADD_CONDITIONAL_STEP = """
create function pgflow.add_step(
    flow_slug text, step_slug text, deps_slugs text[], max_attempts integer, base_delay integer, timeout integer,
    start_delay integer, step_type text, required_input_pattern jsonb, forbidden_input_pattern jsonb, when_unmet text,
    when_exhausted text
) returns pgflow.steps language sql set search_path to ''
as 'select pgflow.add_step($1, $2, $3, $4, $5, $6, $7, $8)'
"""
"""As newer cores have it, without what it is there for."""


def order() -> pgflow.Flow:
    """A step, a map over it that fails once, a step on that, which fails for good where it is told to."""
    flow = pgflow.Flow("order", max_attempts=2, base_delay=0)

    @flow.step()
    def lines(given: Any, ctx: pgflow.TaskContext) -> Any:
        return given["lines"]

    @flow.map(array="lines")
    def price(line: int, ctx: pgflow.TaskContext) -> int:
        if ctx.attempt == 1:
            raise OSError("the first attempt always fails")
        return line * 2

    @flow.step(depends_on=["price"], timeout=7)
    def total(deps: Any, ctx: pgflow.TaskContext) -> Any:
        if ctx.flow_input["fails"]:
            raise ValueError("wrong")
        return sum(deps["price"])

    return flow


def live(conninfo: str, strategy: str) -> None:
    """Register, run, fail, retry, ask, wait, put aside, and stop while something runs."""
    flow, jobs = order(), [echo_job(f"echo_{n}") for n in range(3)]
    often = {"heartbeat_interval": 0.1, "recovery_interval": 0.1}
    begun, go_on = threading.Event(), threading.Event()

    @pgflow.job("slow")
    def slow(message: Any, ctx: pgflow.TaskContext) -> Any:
        begun.set()
        go_on.wait(WAIT)

    try:
        with running(
            conninfo, flows=[flow], jobs=[*jobs, slow], signal_strategy=strategy, shutdown_timeout=0.5, **often
        ) as starter:
            starter.await_ready(WAIT)
            client = starter.client
            with psycopg.connect(conninfo, options=OLD_FASHIONED) as connection:
                given = {"lines": [1, 2], "fails": False, "long": [uuid4().hex for _ in range(100)]}
                runs = [client.start_flow(flow, given, connection=connection)]
                for job in jobs:
                    connection.execute("select pgmq.send(%s::text, '{}'::jsonb)", (job.slug,))
            runs += client.enqueue_many(jobs[0], range(5), delay=0.01)
            failing = client.start_flow(flow, {"lines": [1], "fails": True})
            assert [run.wait(WAIT).status for run in runs] == ["completed"] * 6
            assert failing.wait(WAIT).status == "failed"
            assert client.run(failing.id).error
            assert len(client.steps(failing.id)) == 3
            assert len(client.recent_runs()) >= 7
            assert client.workers_alive(flow) == 1
            list_runs(client, failing)
            look_as_a_page_does(starter, failing)
            client.delete(failing.id)
            client.enqueue(slow, 1)
            assert begun.wait(WAIT)
            begun.clear()
    finally:
        go_on.set()


def list_runs(client: Any, run: pgflow.Run) -> None:
    """By everything, after a run and after an id; and tell one in detail."""
    for since in (timedelta(days=1), run.started_at):
        for after in (run, run.id):
            client.runs(status="failed", flow=run.flow_slug, since=since, after=after)
    for payloads in (False, True):
        assert client.details(run.id, payloads=payloads).tasks


def look_as_a_page_does(starter: Any, run: pgflow.Run) -> None:
    """At everything, and at runs by everything."""
    views, status = starter.views, frozenset({run.status})
    for wanted in (RunsWanted(), RunsWanted(status, run.flow_slug), RunsWanted(id=run.id), RunsWanted(status)):
        views.runs(wanted, patience=WAIT)
    for payloads in (False, True):
        assert views.run(run.id, payloads=payloads, patience=WAIT).tasks
    waiting = starter.client.enqueue("echo_0", 1, delay=500)
    assert views.run(waiting.id, payloads=False, patience=WAIT).tasks[0].visible_at
    starter.client.cancel(waiting.id)
    assert views.queues(patience=WAIT)
    assert views.done_before([run.flow_slug], every=15, slots=240, patience=WAIT)[0].counts
    assert views.workers(patience=WAIT)
    assert views.failing(patience=WAIT).failures


def use_adapters(conninfo: str, admin: Admin) -> None:
    """What is done seldom, by a worker whose luck is out."""
    admin.execute("create or replace function pgflow.requeue_stalled_tasks() returns int language sql as 'select 0'")
    admin.execute("revoke execute on function pgflow.start_ready_steps from public")
    flow, scope, worker = echo_job("seldom", max_attempts=2), NoScope(), uuid4()
    with opened(conninfo) as database, pgflow.PgflowClient(conninfo) as client:
        flows, tasks = PostgresFlowStore(database, SystemClock()), PostgresTaskStore(database)
        definition = flows.compile(definition_of(flow), scope).definition
        flows.compile(replace(definition, slug="double__underscore"), scope)
        flows.verify([definition], scope, notify=True)
        flows.enable_notify("seldom", 100, scope)
        flows.register_workers([(worker, "seldom")], scope)
        client.enqueue_many(flow, range(8))
        client.enqueue(flow, 1, run_id=(again := uuid4()))
        client.enqueue(flow, 1, run_id=again)
        assert tasks.evidence(["seldom"], {}, {"seldom": [("seldom", 1)]})
        claimed = tasks.claim(definition, worker, 3, scope).tasks
        good, bad, worse = claimed
        for careful in (False, True):
            tasks.settle([Outcome(good, OutcomeKind.COMPLETED, "1")], careful=careful)
        tasks.settle(
            [Outcome(bad, OutcomeKind.FAILED, error="no"), Outcome(worse, OutcomeKind.FAILED_FOR_GOOD, error="no")]
        )
        by_core = PostgresTaskStore(database, fast_lane=False)
        (last,) = by_core.claim(definition, worker, 1, scope).tasks
        for outcome in (Outcome(last, OutcomeKind.COMPLETED, "1"), Outcome(last, OutcomeKind.SNOOZED)):
            by_core.settle([outcome])

        def seldom(conn: Any) -> None:
            messages = Messages(definition, worker, Queue("seldom"), detect(conn))
            assert messages.claim_unlocked(conn, 2)
            (message, headers), *_ = messages.read(conn, 1)
            messages.start(conn, message, headers)
            of_known = Messages(definition, worker, Queue("seldom"), detect(conn), known_only=True)
            assert len(of_known.read(conn, 1)) == len(of_known.claim(conn, 1)) == 1
            messages.put_aside(conn, [message], [message], whole_queue=True)
            messages.extend(conn, {message: 1})
            messages.unwired(conn)
            messages.hidden(conn)
            set_headers(conn, "seldom", [again], "{}")
            look_at_rights(conn)
            for pooled in (server_limits(1).setting(), PLANS):
                conn.execute(pooled)
            pgmq.notify(conn, "nobody")

        database.call(seldom)
        held = [task for _, task in tasks.started_by([worker])]
        tasks.give_back(worker, held[:1])
        look_at_queues(database, tasks, worker)
        tasks.heartbeat([worker], [again])
        tasks.keep_young([worker])
        # One of its tasks has no attempt left.
        admin.execute("update pgflow.workers set last_heartbeat_at = '2000-01-01' where worker_id = %s", (worker,))
        admin.execute("update pgflow.step_tasks set attempts_count = 2 where message_id = %s", (held[1].msg_id,))
        assert tasks.recover_stalled(["seldom"], [], 0.0) == len(held) - 1
        tasks.workers_stopped([worker])
        admin.execute("create function pgflow.mark_worker_stopped(worker_id uuid) returns void language sql as ''")
        tasks.workers_stopped([worker])
        end_backends(database)


def carry_on(conninfo: str) -> None:
    """What outcomes of traced runs bring about, by the fast lane and by the core's functions."""
    flow, scope, worker = order(), NoScope(), uuid4()
    with opened(conninfo) as database, pgflow.PgflowClient(conninfo) as client:
        flows = PostgresFlowStore(database, SystemClock())
        tasks = PostgresTaskStore(database, carried=lambda headers: headers)
        definition = flows.compile(definition_of(flow), scope).definition
        flows.register_workers([(worker, flow.slug)], scope)
        client.start_flows(flow, [{"lines": [1]}] * 3)
        claimed = [t._replace(headers="{}") for t in tasks.claim(definition, worker, 3, scope).tasks]
        for some in (claimed[:2], claimed[2:]):
            tasks.settle([Outcome(task, OutcomeKind.COMPLETED, "[1]") for task in some])


def end_and_do_again(conninfo: str, admin: Admin) -> None:
    """A run with a task that is open, and one without."""
    provider = TracerProvider(shutdown_on_exit=False)
    with pgflow.PgflowClient(conninfo, tracer_provider=provider) as client:
        for left in ("false", "true"):
            run = client.enqueue(echo_job("ended"), 1)
            admin.execute(f"delete from pgflow.step_tasks where run_id = %s and {left}".encode(), (run.id,))
            assert client.cancel(run.id).status == "failed"
        assert client.rerun(run.id).status == "started"
    provider.shutdown()


def forget(conninfo: str, admin: Admin) -> None:
    """Finished runs, of which there are some, and the rows of workers."""
    admin.execute("update pgflow.workers set last_heartbeat_at = '2000-01-01'")
    now = pgflow.Retention(timedelta(0), timedelta(0))
    with opened(conninfo) as database:
        assert prune_runs(Calls(database), now, limit=1) == (1, 0)
        database.call(lambda conn: conn.execute(forgetting.TRY_IN_BATCH))  # behind a pooler alone
        assert count_due(Calls(database), now)
        prune_runs(Calls(database), now)


def delete_flows(conninfo: str, admin: Admin) -> None:
    """One that has another's queue, and that one; then by a function of the core's, which does nothing here."""
    admin.execute("select pgflow.create_flow('Ended')")
    with pgflow.PgflowClient(conninfo) as client:
        assert client.delete_flow("Ended") == 0
        assert client.delete_flow("ended") > 0
        admin.execute("create function pgflow.delete_flow_and_data(flow_slug text) returns void language sql as ''")
        assert client.delete_flow("unless") == 0


def look_at_queues(database: Database, tasks: PostgresTaskStore, worker: UUID) -> None:
    """Of one that is there, and that nobody has locked; and of its flow, as schedules do."""
    assert PostgresScheduleStore(database).known("seldom", [worker])[0] is not None
    assert [depth.queue for depth in PostgresQueueDepths(database).depths(["seldom", "nobody"])] == ["seldom"]
    assert PostgresRunEnds(database).ended_by([(worker, "seldom", 0)], [worker]) == {}
    assert tasks.look([(worker, "seldom")]) != [0]
    assert not BarredQueues(database).look("seldom", worker, Queue("seldom", "seldom"), NoScope())


def look_at_rights(conn: Any) -> None:
    """Of who has them all, and of who has none; of all queues."""
    assert queues.of_steps(conn, ["seldom"]) == {}
    assert "seldom" in rights.queues(conn)
    assert rights.role_of(conn)
    assert rights.missing(conn, needs.ALL_USES, ["seldom"]) == []
    assert rights.missing(conn, needs.ALL_USES, ["seldom"], role="pg_monitor")
    with pytest.raises(MissingRightsError):
        refusals.refuse_denied(conn, psycopg.Error("denied"), ("work", "compile"), "seldom")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        pgmq.enable_notify_anew(cast("Any", Denied(conn)), "seldom", 0)


class Denied:
    """A connection that may look, and nothing else."""

    def __init__(self, conn: Any) -> None:
        self.execute = conn.execute

    def pipeline(self) -> Any:
        raise psycopg.errors.InsufficientPrivilege


def compile_conditions(conninfo: str, admin: Admin) -> None:
    """Compile a step with a condition, on a core that takes some."""
    admin.execute(ADD_CONDITIONAL_STEP)
    with opened(conninfo) as database:
        flow = pgflow.Flow("unless")
        flow.step(slug="never", if_not={})(lambda given, ctx: given)
        PostgresFlowStore(database, SystemClock()).compile(definition_of(flow), NoScope())


def end_backends(database: Database) -> None:
    """Have the probe end one that is there no more."""
    left, ended = Backend(1, ""), SimpleQueue[Any]()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(BackendBudget, "left_behind", (left,))
        patched.setattr(BackendBudget, "ended", lambda _, backends: ended.put(backends))
        database.doubt(lambda: None)
        assert set(ended.get(timeout=WAIT)) == {left}


def sow(conninfo: str) -> None:
    """Plant a look-alike of whatever our statements call."""
    plant(conninfo, functions_in(value for m in MODULES for value in vars(m).values() if isinstance(value, str)))


def test_nothing_that_our_statements_name_can_be_anybody_elses(
    database: str, admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Session, "limit_by", lambda self, limits: None)  # each statement by itself
    with recorded() as statements:
        for strategy in STRATEGIES:
            live(database, strategy)
        use_adapters(database, admin)
        carry_on(database)
        forget(database, admin)
        compile_conditions(database, admin)
        end_and_do_again(database, admin)
        delete_flows(database, admin)
    sow(database)
    assert "\n\n".join(sorted({shadows(admin, statement) for statement in statements})).strip() == ""
    assert unseen([statement.text for statement in statements]) == []


def test_a_life_in_a_schema_full_of_look_alikes_calls_none(database: str, admin: Admin) -> None:
    sow(database)
    for strategy in STRATEGIES:
        live(database, strategy)
    use_adapters(database, admin)
    carry_on(database)
    forget(database, admin)
    compile_conditions(database, admin)
    end_and_do_again(database, admin)
    delete_flows(database, admin)
    assert caught(database) == []
