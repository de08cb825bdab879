"""A role that has less than a worker needs: it is told what is missing with what mends it, and nothing else."""

from __future__ import annotations

import pytest
from psycopg import sql

import pgflow_starter as pgflow
from pgflow_starter.postgres.setup.grants import grants
from pgflow_starter.postgres.stores import needs, pgmq, rights
from tests.postgres.rights_rig import QUOTED, WORKER, Admin, compiled
from tests.support.starters import await_state, echo_job, running, state

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
