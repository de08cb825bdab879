"""What a role may do: less than a worker needs is told with what mends it, and the least is enough for everything."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

import pgflow_starter as pgflow
from pgflow_starter.clock import SystemClock
from pgflow_starter.core.task import Outcome, OutcomeKind
from pgflow_starter.errors import SetupError
from pgflow_starter.postgres.setup.grants import grants
from pgflow_starter.postgres.stores import needs, pgmq, rights
from pgflow_starter.postgres.stores.flows import PostgresFlowStore, compile_flow
from pgflow_starter.postgres.stores.tasks import PostgresTaskStore
from tests.support.commands import call
from tests.support.database import NoScope, opened
from tests.support.starters import STRATEGIES, await_state, echo_job, running, state

Admin = psycopg.Connection[tuple[Any, ...]]
WORKER = 'Odd "worker"'
QUOTED = '"Odd ""worker"""'


@pytest.fixture
def admin(database: str) -> Iterator[Admin]:
    """The owner of all."""
    with psycopg.connect(database, autocommit=True) as admin:
        yield admin


@pytest.fixture
def worker(database: str, admin: Admin) -> Iterator[str]:
    """The connection string of a role that has no right here, nor a usual name."""
    role = sql.Identifier(WORKER)
    with suppress(psycopg.errors.UndefinedObject):  # what a test that was cut short has left
        admin.execute(sql.SQL("drop owned by {r}; drop role {r}").format(r=role))
    admin.execute(sql.SQL("create role {} login").format(role))
    yield make_conninfo(database, user=WORKER)
    terminate = "select pg_terminate_backend(pid, 5000) from pg_stat_activity where usename = %s"
    admin.execute(terminate, (WORKER,))
    admin.execute("reset role")
    admin.execute(sql.SQL("drop owned by {r} cascade; drop role {r}").format(r=role))


def flow_of(slug: str = "f") -> pgflow.Flow:
    """With a map whose tasks are tried twice."""
    flow = pgflow.Flow(slug, base_delay=0)

    @flow.step()
    def items(given: Any, ctx: pgflow.TaskContext) -> Any:
        return [1, 2, 3]

    @flow.map(array="items")
    def doubled(item: Any, ctx: pgflow.TaskContext) -> Any:
        if ctx.attempt == 1:
            raise RuntimeError("once more")
        return item * 2

    @flow.step(depends_on=["doubled"])
    def total(deps: Any, ctx: pgflow.TaskContext) -> Any:
        return sum(deps["doubled"])

    return flow


def failing_job(slug: str = "failing") -> pgflow.Job:
    """It never does."""

    @pgflow.job(slug, max_attempts=1)
    def failing(message: Any, ctx: pgflow.TaskContext) -> Any:
        raise ValueError(message)

    return failing


def compiled(admin: Admin, *modules: Any) -> None:
    """By the owner."""
    for module in modules:
        compile_flow(admin, module.__pgflow_definition__())


# What is missing


REVOKED = [
    ("USAGE", "SCHEMA pgflow"),
    ("USAGE", "SCHEMA pgmq"),
    ("USAGE", "SCHEMA realtime"),
    ("INSERT", "TABLE pgmq.a_echo"),
    ("DELETE", "TABLE pgmq.q_echo"),
    ("SELECT", "TABLE pgflow.flows"),
    ("SELECT", "TABLE pgflow.deps"),
    ("SELECT", "TABLE pgmq.meta"),
    ("UPDATE", "TABLE pgflow.runs"),
    ("UPDATE", "TABLE pgflow.step_states"),
    ("INSERT", "TABLE pgflow.step_tasks"),
    ("INSERT", "TABLE pgflow.workers"),
]


@pytest.mark.parametrize(("privilege", "target"), REVOKED, ids=" ".join)
def test_a_right_that_is_missing_is_permanent_until_the_grant_that_is_named_is_made(
    database: str, worker: str, admin: Admin, privilege: str, target: str
) -> None:
    job = echo_job()
    compiled(admin, job)
    grants(database, WORKER, apply=True)
    admin.execute(f"revoke {privilege} on {target} from {QUOTED}".encode())
    with running(worker, jobs=[job]) as starter:
        failed = await_state(starter, job, lambda s: s.status == "failed_permanent")
        assert failed.last_error is not None
        assert (failed.phase, failed.last_error.phase) == (None, "worker")
        assert failed.last_error.error_type == "MissingRightsError"
        grant = f"GRANT {privilege} ON {target} TO {QUOTED}"
        assert failed.last_error.reason.count("GRANT") == 1
        assert f"role {WORKER!r} has no {privilege} on {target[0].lower()}" in failed.last_error.reason
        assert grant in failed.last_error.reason
        admin.execute(grant.encode())
        starter.retry_now(job)
        await_state(starter, job, lambda s: s.status == "succeeded")
        assert starter.client.enqueue(job, 7).wait(10).output == {"echo": 7}


def test_a_function_that_may_not_be_called_is_named_and_so_is_one_that_only_the_core_calls(
    database: str, worker: str, admin: Admin
) -> None:
    job = echo_job()
    compiled(admin, job)
    grants(database, WORKER, apply=True)
    admin.execute("revoke execute on function pgflow.start_tasks, pgflow.start_ready_steps from public")
    admin.execute("revoke execute on function pgmq.purge_queue from public")
    with running(worker, jobs=[job]) as starter:
        failed = await_state(starter, job, lambda s: s.status == "failed_permanent")
        assert failed.last_error is not None
        assert "GRANT EXECUTE ON FUNCTION pgflow.start_tasks(" in failed.last_error.reason
        assert "GRANT EXECUTE ON FUNCTION pgflow.start_ready_steps(" in failed.last_error.reason
        assert "purge" not in failed.last_error.reason
        assert "purge" not in grants(database, WORKER, apply=True)
        starter.retry_now(job)
        await_state(starter, job, lambda s: s.status == "succeeded")
        assert starter.client.enqueue(job, 7).wait(10).status == "completed"


@pytest.mark.parametrize("table", ["pgflow.step_tasks", "pgmq.q_echo"])
def test_row_level_security_that_lets_nothing_be_seen_is_permanent_until_there_is_a_policy(
    database: str, worker: str, admin: Admin, table: str
) -> None:
    job = echo_job()
    compiled(admin, job)
    grants(database, WORKER, apply=True)
    admin.execute(f"alter table {table} enable row level security".encode())
    with running(worker, jobs=[job]) as starter:
        failed = await_state(starter, job, lambda s: s.status == "failed_permanent")
        assert failed.last_error is not None
        assert f"row level security of {table} has no policy" in failed.last_error.reason
        assert f"ALTER ROLE {QUOTED} BYPASSRLS" in failed.last_error.reason
        assert f"\n-- row level security of {table}" in grants(database, WORKER)
        admin.execute(f"create policy all_of_it on {table} to {QUOTED} using (true)".encode())
        starter.retry_now(job)
        await_state(starter, job, lambda s: s.status == "succeeded")
        assert starter.client.enqueue(job, 7).wait(10).status == "completed"


def test_row_level_security_does_not_concern_the_owner_and_who_bypasses_it(
    database: str, worker: str, admin: Admin
) -> None:
    compiled(admin, echo_job())
    grants(database, WORKER, apply=True)
    admin.execute("alter table pgflow.runs enable row level security")
    assert rights.missing(admin, needs.ALL_USES, ["echo"]) == []
    assert [r.target for r in rights.missing(admin, ("start",), role=WORKER)] == ["pgflow.runs"]
    admin.execute(sql.SQL("alter role {} bypassrls").format(sql.Identifier(WORKER)))
    assert rights.missing(admin, needs.ALL_USES, ["echo"], role=WORKER) == []


def test_of_many_modules_only_those_whose_queue_is_closed_fail(database: str, worker: str, admin: Admin) -> None:
    jobs = [echo_job(f"job{n}") for n in range(20)]
    compiled(admin, *jobs)
    grants(database, WORKER, apply=True)
    admin.execute(f"revoke insert on pgmq.a_job7 from {QUOTED}".encode())
    with running(worker, jobs=jobs) as starter:
        starter.await_ready(20)
        failed = [m for m in starter.status().modules if m.status != "succeeded"]
        assert [(m.module, m.status) for m in failed] == [("job7", "failed_permanent")]
        assert starter.client.enqueue(jobs[6], 1).wait(10).status == "completed"


def test_who_may_work_and_not_compile_is_told_so_for_a_flow_that_is_not_stored(
    database: str, worker: str, admin: Admin
) -> None:
    grants(database, WORKER, apply=True)
    admin.execute(f"revoke create on schema pgmq from {QUOTED}".encode())
    job = echo_job()
    with running(worker, jobs=[job]) as starter:
        failed = await_state(starter, job, lambda s: s.status == "failed_permanent")
        assert failed.last_error is not None
        assert f"GRANT CREATE ON SCHEMA pgmq TO {QUOTED}" in failed.last_error.reason
        compiled(admin, job)
        grants(database, WORKER, apply=True)
        starter.retry_now(job)
        await_state(starter, job, lambda s: s.status == "succeeded")


def test_who_may_not_have_a_queue_notify_is_told_so(database: str, worker: str, admin: Admin) -> None:
    job = echo_job()
    compiled(admin, job)
    grants(database, WORKER, apply=True)
    admin.execute(f"revoke trigger on pgmq.q_echo from {QUOTED}".encode())
    with running(worker, jobs=[job], signal_strategy="notify") as starter:
        failed = await_state(starter, job, lambda s: s.status == "failed_permanent")
        assert failed.last_error is not None
        assert failed.last_error.phase == "notify_db"
        assert f"GRANT TRIGGER ON TABLE pgmq.q_echo TO {QUOTED}" in failed.last_error.reason
    with running(worker, jobs=[job]) as starter:
        starter.await_ready(10)
        assert state(starter, job).status == "succeeded"


def test_the_table_of_throttles_matters_where_a_queue_notifies_and_nowhere_else(
    database: str, worker: str, admin: Admin
) -> None:
    silent, notifying = echo_job("silent"), echo_job("notifying")
    compiled(admin, silent, notifying)
    pgmq.enable_notify(admin, "notifying", 250)
    grants(database, WORKER, apply=True)
    admin.execute(f"revoke all on pgmq.notify_insert_throttle from {QUOTED}".encode())
    with running(worker, jobs=[silent, notifying]) as starter:
        starter.await_ready(10)
        assert state(starter, silent).status == "succeeded"
        failed = state(starter, notifying)
        assert failed.status == "failed_permanent"
        assert failed.last_error is not None
        assert f"GRANT SELECT, UPDATE ON TABLE pgmq.notify_insert_throttle TO {QUOTED}" in failed.last_error.reason


DEFINER = "alter function {} security definer"
ARCHIVE = [DEFINER.format(f"pgmq.archive(text, {ids})") for ids in ("bigint", "bigint[]")]
CORE = [DEFINER.format(f"pgflow.{name}_task{s}") for name, s in (("complete", ""), ("fail", ""), ("start", "s"))]
ENOUGH = {
    "what the core does with its owner's rights": [
        *CORE,
        f"revoke insert, delete on pgmq.q_echo from {QUOTED}; revoke all on pgmq.a_echo from {QUOTED}",
        f"revoke insert on pgflow.step_tasks from {QUOTED}; revoke update on pgflow.step_states from {QUOTED}",
    ],
    "what pgmq archives with its owner's rights": [
        *ARCHIVE,
        "alter table pgmq.q_echo enable row level security",
        f"create policy a on pgmq.q_echo for select to {QUOTED} using (true)",
        f"create policy b on pgmq.q_echo for update to {QUOTED} using (true)",
    ],
    "dependencies that a job has not": ["alter table pgflow.deps enable row level security"],
    "a function that a comment names": [
        "create function pgflow.unused() returns void language sql as ''",
        "revoke execute on function pgflow.unused from public",
        """
        create or replace function realtime.send(payload jsonb, event text, topic text, private boolean default true)
        returns void language plpgsql as $$ begin -- pgflow.unused()
            /* pgflow.unused(),
               pgflow.unused() */
        end $$
        """,
    ],
    "a function of the same name": [
        "create function pgmq.archive(queue_name text, msg_id integer) returns boolean language sql as 'select true'",
        "revoke execute on function pgmq.archive(text, integer) from public",
    ],
}


@pytest.mark.parametrize("enough", ENOUGH.values(), ids=list(ENOUGH))
def test_what_is_not_needed_is_not_demanded(database: str, worker: str, admin: Admin, enough: list[str]) -> None:
    job = echo_job()
    compiled(admin, job)
    grants(database, WORKER, apply=True)
    for statement in enough:
        admin.execute(statement.encode())
    with running(worker, jobs=[job]) as starter, pgflow.PgflowClient(database) as client:
        starter.await_ready(10)
        assert state(starter, job).status == "succeeded"
        assert client.enqueue(job, 7).wait(10).output == {"echo": 7}
        assert [w.trouble for w in starter.workers()] == [None]


def test_a_right_on_single_columns_is_told_as_what_does_not_do_and_not_as_one_to_compile(
    database: str, worker: str, admin: Admin
) -> None:
    job = echo_job()
    compiled(admin, job)
    grants(database, WORKER, apply=True, work_only=True)
    admin.execute(f"revoke select on pgflow.flows from {QUOTED}".encode())
    admin.execute(f"grant select (flow_slug) on pgflow.flows to {QUOTED}".encode())
    with running(worker, jobs=[job]) as starter:
        failed = await_state(starter, job, lambda s: s.status == "failed_permanent")
        assert failed.last_error is not None
        reason = failed.last_error.reason
        assert "permission denied for table flows, and rights on single columns of it do not do" in reason
        assert f"GRANT SELECT ON TABLE pgflow.flows TO {QUOTED}" in reason
        assert reason.count("GRANT") == 1
        grants(database, WORKER, apply=True, work_only=True)
        starter.retry_now(job)
        await_state(starter, job, lambda s: s.status == "succeeded")


def test_what_nobody_knows_of_is_told_by_what_the_server_says(database: str, worker: str, admin: Admin) -> None:
    job = echo_job()
    compiled(admin, job)
    grants(database, WORKER, apply=True)
    admin.execute(
        "create table public.ours (); create or replace function pgflow.ours() returns trigger language plpgsql"
        " as $$ begin perform from public.ours; return new; end $$;"
        "create trigger ours before insert on pgflow.workers for each row execute function pgflow.ours()"
    )
    with running(worker, jobs=[job]) as starter:
        failed = await_state(starter, job, lambda s: s.status == "failed_permanent")
        assert failed.last_error is not None
        assert "permission denied for table ours: no right" in failed.last_error.reason


@pytest.mark.parametrize("turned_off", ["disable", "enable replica"])
def test_a_trigger_that_is_turned_off_is_for_the_tables_owner_to_turn_on(
    database: str, worker: str, admin: Admin, turned_off: str
) -> None:
    job, trigger = echo_job(), "trigger trigger_notify_queue_insert_listeners"
    compiled(admin, job)
    pgmq.enable_notify(admin, "echo", 250)
    grants(database, WORKER, apply=True)
    admin.execute(f"alter table pgmq.q_echo {turned_off} {trigger}".encode())
    with running(worker, jobs=[job], signal_strategy="notify") as starter:
        failed = await_state(starter, job, lambda s: s.status == "failed_permanent")
        assert failed.last_error is not None
        assert "role 'postgres'" in failed.last_error.reason
        remedy = f"alter table pgmq.q_echo enable {trigger}"
        assert remedy in failed.last_error.reason.lower()
        admin.execute(remedy.encode())
        starter.retry_now(job)
        await_state(starter, job, lambda s: s.status == "succeeded")


# The least rights


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
        with pytest.raises(pgflow.DatabaseError, match="permission denied"):
            client.enqueue("echo", 8)


# The command line


def test_a_check_tells_whether_flows_can_run_as_who_asks(database: str, worker: str, admin: Admin) -> None:
    compiled(admin, echo_job())
    owner = call("db", "check", "--dsn", database)
    assert (owner.exit_code, owner.stdout.splitlines()[-1]) == (0, "flows can run here as role 'postgres'")
    assert "(concluded: 0.8.1 or 0.9)" in owner.stdout
    nobody = call("db", "check", "--dsn", worker)
    assert nobody.exit_code == 1
    assert f"GRANT USAGE ON SCHEMA realtime TO {QUOTED}" in nobody.stdout
    assert f"flows cannot run here as role {WORKER!r}" in nobody.stderr
    assert call("db", "grant", WORKER, "--apply", "--dsn", database).exit_code == 0
    granted = call("db", "check", "--dsn", worker)
    assert (granted.exit_code, granted.stdout.splitlines()[-1]) == (0, f"flows can run here as role {WORKER!r}")
    admin.execute(f"revoke insert on pgmq.a_echo from {QUOTED}".encode())
    again = call("db", "check", "--dsn", worker)
    assert again.exit_code == 1
    assert f"- role {WORKER!r} has no INSERT on table pgmq.a_echo: GRANT" in again.stdout


def test_what_a_grant_prints_is_sql_that_grants_it_as_often_as_it_is_run(
    database: str, worker: str, admin: Admin
) -> None:
    compiled(admin, echo_job())
    admin.execute("revoke execute on all functions in schema pgflow from public")
    printed = call("db", "grant", WORKER, "--dsn", database)
    assert (printed.exit_code, printed.stderr) == (0, "")
    assert rights.missing(admin, needs.ALL_USES, ["echo"], role=WORKER)
    for _ in range(2):
        admin.execute(printed.stdout.encode())
        assert rights.missing(admin, needs.ALL_USES, ["echo"], role=WORKER) == []
    assert call("db", "grant", WORKER, "--apply", "--dsn", database).stdout == printed.stdout


def test_who_may_work_only_works_on_what_is_stored_and_a_check_notes_the_rest(
    database: str, worker: str, admin: Admin
) -> None:
    flow, job = flow_of(), echo_job()
    compiled(admin, flow, job)
    pgmq.enable_notify(admin, "echo", 250)
    printed = call("db", "grant", WORKER, "--work-only", "--dsn", database).stdout
    assert all(word not in printed for word in ("CREATE", "TRIGGER", "compile"))
    assert call("db", "grant", WORKER, "--work-only", "--apply", "--dsn", database).exit_code == 0
    checked = call("db", "check", "--dsn", worker)
    assert (checked.exit_code, checked.stdout.splitlines()[-1]) == (0, f"flows can run here as role {WORKER!r}")
    notes = [line for line in checked.stdout.splitlines() if line.startswith("Note: ")]
    assert [note.partition(": role")[0] for note in notes] == [
        "Note: this role cannot make new flows",
        "Note: this role cannot have a queue notify",
    ]
    assert f"GRANT CREATE ON SCHEMA pgmq TO {QUOTED}" in notes[0]
    assert f"GRANT TRIGGER ON TABLE pgmq.q_echo TO {QUOTED}" in notes[1]
    with running(worker, flows=[flow], jobs=[job]) as starter:
        starter.await_ready(20)
        assert starter.client.start_flow(flow, {}).wait(20).output == {"total": 12}
        assert starter.client.enqueue(job, 7).wait(10).output == {"echo": 7}
    complete = call("db", "grant", WORKER, "--dsn", database).stdout
    assert "can have code of its" in complete


def test_connecting_is_granted_where_it_is_closed_and_who_cannot_log_in_is_noted(
    database: str, worker: str, admin: Admin
) -> None:
    assert "CONNECT" not in grants(database, WORKER)
    name = admin.info.dbname
    admin.execute(f"revoke connect on database {name} from public".encode())
    admin.execute(sql.SQL("alter role {} nologin").format(sql.Identifier(WORKER)))
    script = grants(database, WORKER, apply=True)
    assert f"GRANT CONNECT ON DATABASE {name} TO {QUOTED};" in script
    assert f"-- role {WORKER!r} cannot connect, only its members can: else ALTER ROLE {QUOTED} LOGIN" in script
    admin.execute(sql.SQL("alter role {} login").format(sql.Identifier(WORKER)))
    assert grants(database, WORKER).count("LOGIN") == 0
    assert call("db", "check", "--dsn", worker).exit_code == 0


def test_what_belongs_to_several_is_granted_by_each_and_the_owner_is_named(
    database: str, worker: str, admin: Admin
) -> None:
    name = admin.info.dbname
    compiled(admin, echo_job())
    roles = owner, other = [f"{role}_{name}" for role in ("owner", "other")]
    for role in roles:
        admin.execute(f"create role {role} login".encode())
    try:
        admin.execute(f"alter database {name} owner to {owner}; grant create on database {name} to {owner}".encode())
        for statement in (f"alter table pgmq.{p}_echo owner to {QUOTED}" for p in ("q", "a")):
            admin.execute(statement.encode())
        for schema in ("pgflow", "pgmq", "realtime"):
            admin.execute(f"grant all on schema {schema} to {owner} with grant option".encode())
            admin.execute(f"grant all on all tables in schema {schema} to {owner} with grant option".encode())
        admin.execute(f"revoke all on pgmq.q_echo, pgmq.a_echo from {owner}".encode())
        admin.execute(
            f"grant usage on schema pgmq, pgflow to {QUOTED}; grant select on pgflow.flows to {QUOTED}".encode()
        )
        by_owner = make_conninfo(database, user=owner)
        refused = call("db", "grant", other, "--apply", "--dsn", by_owner)
        assert refused.exit_code == 1
        assert f"for its owner, role {WORKER!r}, to grant" in refused.stderr
        assert f"GRANT {QUOTED} TO {owner}" in refused.stderr
        statements = call("db", "grant", other, "--dsn", by_owner).stdout.splitlines()
        assert all("q_echo" not in s or "pgflow" not in s for s in statements)
        admin.execute(f"grant {QUOTED} to {owner}".encode())
        assert call("db", "grant", other, "--apply", "--dsn", by_owner).exit_code == 0
        assert rights.missing(admin, needs.ALL_USES, ["echo"], role=other) == []
        admin.execute(f"revoke {QUOTED} from {owner}".encode())
        assert call("db", "grant", other, "--apply", "--dsn", by_owner).exit_code == 0  # nothing is missing
    finally:
        admin.execute(f"alter database {name} owner to postgres".encode())
        for role in roles:
            admin.execute(f"drop owned by {role} cascade; drop role {role}".encode())


def test_a_role_that_is_not_there_is_refused(database: str) -> None:
    for name in ("nobody here", "public", "x; drop schema pgflow cascade"):
        refused = call("db", "grant", name, "--dsn", database)
        assert (refused.exit_code, refused.stdout) == (1, "")
        assert f"there is no role {name!r} on this server: create it first" in refused.stderr


def test_a_grant_by_who_may_not_grant_changes_nothing_and_says_so(database: str, worker: str, admin: Admin) -> None:
    grants(database, WORKER, apply=True)
    admin.execute("create role other_worker")
    try:
        with pytest.raises((SetupError, pgflow.DatabaseError), match="nothing was changed: this is for its owner"):
            grants(worker, "other_worker", apply=True)
        assert len(rights.missing(admin, ("start",), role="other_worker")) == 2
    finally:
        admin.execute("drop role other_worker")
