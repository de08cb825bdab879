"""The command line's grants, and what a check says of a role."""

from __future__ import annotations

import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

import pgflow_starter as pgflow
from pgflow_starter.errors import SetupError
from pgflow_starter.postgres.setup.grants import grants
from pgflow_starter.postgres.stores import needs, pgmq, rights
from tests.postgres.rights_rig import QUOTED, WORKER, Admin, compiled, flow_of
from tests.support.commands import call
from tests.support.starters import echo_job, running


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
