"""`flow list`: what the database has."""

from __future__ import annotations

import json

import pgflow_starter as pgflow
from tests.support.commands import call
from tests.support.starters import echo_job, running


def test_stored_flows_are_listed_with_their_steps_and_options(database: str) -> None:
    nothing = call("flow", "list", "--dsn", database)
    assert (nothing.exit_code, nothing.stdout) == (0, "no flows\n")
    flow = pgflow.Flow("fan", max_attempts=2, base_delay=0, timeout=7)
    flow.step("split")(lambda given, ctx: [given])
    flow.map(array="split", slug="each")(lambda item, ctx: item)
    with running(database, flows=[flow], jobs=[echo_job()]) as starter:
        starter.await_ready(30)
    told = call("flow", "list", "--dsn", database)
    assert (told.exit_code, told.stderr) == (0, "")
    lines = [line.split() for line in told.stdout.splitlines() if line.strip()]
    assert lines[0] == ["flow", "attempts", "delay", "timeout", "steps"]
    assert lines[2:] == [
        ["echo", "3", "5", "s", "60", "s", "echo"],
        ["fan", "2", "0", "s", "7", "s", "split,", "each*", "(split)"],
    ]
    echo, fan = json.loads(call("flow", "list", "--json", "--dsn", database).stdout)["flows"]
    assert echo["created_at"]
    assert fan["steps"] == [
        {"slug": "split", "kind": "single", "depends_on": []},
        {"slug": "each", "kind": "map", "depends_on": ["split"]},
    ]


def test_a_database_without_pgflow_is_told_how_to_get_it(empty_database: str) -> None:
    told = call("flow", "list", "--dsn", empty_database)
    assert told.exit_code == 1
    assert "not installed in database" in told.stderr
    assert "pgflow-starter db install" in told.stderr
