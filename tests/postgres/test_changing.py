"""Who may change what is stored: a role that may not is told the statements that mend it, and they do."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from psycopg import sql

import pgflow_starter as pgflow
from pgflow_starter.core.modules import definition_of
from pgflow_starter.errors import MissingRightsError
from pgflow_starter.postgres.setup.deleting import delete_flow, holdings
from pgflow_starter.postgres.setup.syncing import sync
from tests.postgres.rights_rig import WORKER, Admin, compiled
from tests.support.starters import echo_job


def told(call: Callable[[], Any]) -> str:
    with pytest.raises(MissingRightsError) as error:
        call()
    return str(error.value)


def grant(admin: Admin, reason: str) -> list[str]:
    """Do what it says."""
    statements = [statement.encode() for statement in re.findall(r"GRANT [^;]*", reason)]
    for statement in statements:
        admin.execute(statement)
    return [statement.decode().partition(" TO ")[0] for statement in statements]


def by_client(conninfo: str, slug: str) -> int:
    with pgflow.PgflowClient(conninfo) as client:
        return client.delete_flow(slug)


def test_who_may_not_sync_is_told_all_grants_and_they_are_enough(database: str, worker: str, admin: Admin) -> None:
    compiled(admin, echo_job())
    reason = told(partial(sync, worker, definition_of(echo_job(timeout=7))))
    assert grant(admin, reason) == [
        "GRANT USAGE ON SCHEMA pgflow",
        "GRANT USAGE ON SCHEMA pgmq",
        "GRANT SELECT ON TABLE pgflow.deps",
        "GRANT SELECT, UPDATE ON TABLE pgflow.flows",
        "GRANT SELECT, UPDATE ON TABLE pgflow.steps",
        "GRANT SELECT ON TABLE pgflow.workers",
        "GRANT SELECT ON TABLE pgmq.meta",
    ]
    assert sync(worker, definition_of(echo_job(timeout=7))) == [(None, "timeout", 60, 7)]


def test_who_may_not_delete_is_told_before_anything_is_counted(database: str, worker: str, admin: Admin) -> None:
    compiled(admin, echo_job())
    reason = told(partial(holdings, worker, "echo"))
    assert told(partial(by_client, worker, "echo")) == reason
    assert "GRANT DELETE, SELECT, UPDATE ON TABLE pgflow.runs" in grant(admin, reason)
    for call in (holdings, delete_flow, by_client):
        reason = told(partial(call, worker, "echo"))
        assert "table pgmq.a_echo belongs to role 'postgres', and only its owner can drop it" in reason
    assert grant(admin, reason) == ["GRANT postgres"]
    try:
        assert holdings(worker, "echo").queued == 0
        assert delete_flow(worker, "echo") == 0
    finally:
        admin.execute(sql.SQL("revoke postgres from {}").format(sql.Identifier(WORKER)))
    with pytest.raises(pgflow.UnknownFlowError):
        holdings(database, "echo")


def test_a_table_with_row_level_security_hides_no_run_from_who_deletes(
    database: str, worker: str, admin: Admin
) -> None:
    compiled(admin, echo_job())
    grant(admin, told(partial(holdings, worker, "echo")))
    admin.execute("alter table pgflow.runs enable row level security")
    for call in (delete_flow, by_client):
        assert "row level security of pgflow.runs has no policy" in told(partial(call, worker, "echo"))


def test_a_queue_that_another_flow_has_too_is_not_taken_from_it(database: str, admin: Admin) -> None:
    compiled(admin, echo_job())
    admin.execute("select pgflow.create_flow('Echo')")
    assert holdings(database, "Echo").namesakes == ["echo"]
    assert delete_flow(database, "Echo") == 0
    assert admin.execute("select pg_catalog.to_regclass('pgmq.q_echo') is not null").fetchone() == (True,)


def test_a_flow_whose_archive_somebody_has_dropped_can_be_deleted(database: str, admin: Admin) -> None:
    compiled(admin, echo_job())
    admin.execute("drop table pgmq.a_echo")
    assert holdings(database, "echo").archived == 0
    assert delete_flow(database, "echo") == 0
