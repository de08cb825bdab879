"""`client.workers_alive`: who would work on the runs of a flow, whoever runs it; and what a role may not ask."""

from __future__ import annotations

import asyncio

import pytest

import pgflow_starter as pgflow
from tests.postgres.rights_rig import QUOTED, Admin, compiled
from tests.support.commands import call
from tests.support.starters import echo_job, running

WAIT = 20.0
ADD = """
insert into pgflow.workers (worker_id, queue_name, function_name, last_heartbeat_at, deprecated_at)
values (gen_random_uuid(), %s, %s, now() - %s::interval, case when %s then now() end)
"""


def test_a_starter_s_worker_counts_until_it_has_stopped(database: str) -> None:
    job = echo_job()
    with pgflow.PgflowClient(database) as client:
        assert client.workers_alive(job) == 0
        with running(database, jobs=[job]) as starter:
            starter.await_ready(WAIT)
            assert client.workers_alive(job) == client.workers_alive("echo") == 1
            assert asyncio.run(client.aio.workers_alive("echo")) == 1
            assert client.workers_alive("another") == 0
        assert client.workers_alive(job) == 0


@pytest.mark.parametrize(
    ("function", "ago", "deprecated", "alive"),
    [
        ("pgflow_starter:echo", "50 s", False, 1),
        ("pgflow_starter:echo", "70 s", False, 0),
        ("pgflow_starter:echo", "1 s", True, 0),
        ("echo-worker", "70 s", False, 1),
        ("echo-worker", "310 s", False, 0),
    ],
    ids=["ours", "ours, silent", "ours, stopping", "another runtime's", "another runtime's, silent"],
)
def test_who_was_not_heard_of_for_long_lives_no_more(
    database: str, admin: Admin, function: str, ago: str, deprecated: bool, alive: int
) -> None:
    admin.execute(ADD, ("echo", function, ago, deprecated))
    with pgflow.PgflowClient(database) as client:
        assert client.workers_alive("echo") == alive


def test_to_a_role_that_may_not_ask_for_workers_nothing_is_said_of_them(
    database: str, worker: str, admin: Admin
) -> None:
    compiled(admin, echo_job())
    admin.execute(f"grant usage on schema pgflow to {QUOTED}".encode())
    admin.execute(f"grant select on all tables in schema pgflow to {QUOTED}".encode())
    admin.execute(f"revoke select on pgflow.workers from {QUOTED}".encode())
    with pgflow.PgflowClient(database) as client:
        run = client.enqueue("echo", 1)
    with pgflow.PgflowClient(worker) as client, pytest.raises(pgflow.DatabaseError, match="permission denied"):
        client.workers_alive("echo")
    shown = call("runs", "show", str(run.id), "--dsn", worker)
    assert shown.exit_code == 0
    assert f"run {run.id}: started, of echo" in shown.stdout
    assert "nobody runs it" not in shown.stdout
