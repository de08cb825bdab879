"""`db prune`: counted, asked, deleted; as a person at a terminal has it, and as a script."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import psycopg
import pytest

import pgflow_starter as pgflow
from pgflow_starter.postgres.stores.forgetting import pruning
from tests.support.commands import call
from tests.support.database import opened
from tests.support.old_runs import Admin, left, make_runs
from tests.support.starters import echo_job
from tests.support.terminal import on_terminal

SLOW = """
create function slow() returns trigger language plpgsql as 'begin perform pg_sleep(600); return old; end';
create trigger slow before delete on pgmq.a_echo for each statement execute function slow()
"""
PRUNE = ("db", "prune", "--older-than", "30d")


@pytest.fixture
def admin(database: str) -> Iterator[Admin]:
    """Of a database with four old runs, two of them failed and one of these older, and a young one."""
    with psycopg.connect(database, autocommit=True) as admin:
        with pgflow.PgflowClient(database) as client:
            client.enqueue(echo_job(), 1)
        make_runs(admin, 2, days=40)
        make_runs(admin, 1, days=40, status="failed")
        make_runs(admin, 1, days=100, status="failed")
        make_runs(admin, 1, days=20)
        yield admin


def test_a_script_is_told_how_many_they_are_and_deletes_with_yes(database: str, admin: Admin) -> None:
    dry = call(*PRUNE, "--dry-run", "--dsn", database)
    assert (dry.exit_code, dry.stdout, dry.stderr) == (0, "4 runs to delete: 2 completed, 2 failed\n", "")
    nobody = call(*PRUNE, "--dsn", database)
    assert nobody.exit_code == 2
    assert "nothing was deleted: standard input is no terminal where to ask; --yes does it unasked" in nobody.stderr
    assert left(admin)["pgflow.runs"] == 6
    some = call(*PRUNE, "--failed-older-than", "90d", "--yes", "--dsn", database)
    assert (some.exit_code, some.stdout) == (0, "3 runs to delete: 2 completed, 1 failed\n3 runs deleted\n")
    rest = call("db", "prune", "--older-than", "0", "--yes", "--dsn", database)
    assert (rest.exit_code, rest.stdout.splitlines()[-1]) == (0, "2 runs deleted")
    none = call(*PRUNE, "--dsn", database)
    assert (none.exit_code, none.stdout) == (0, "0 runs to delete\n0 runs deleted\n")


def test_a_person_is_asked(database: str, admin: Admin) -> None:
    with on_terminal("-m", "pgflow_starter", *PRUNE, env={"PGFLOW_DSN": database}) as screen:
        assert "4 runs to delete: 2 completed, 2 failed" in screen.read_until("Delete them, for good? [y/N]: ")
        screen.type("y\n")
        assert "4 runs deleted" in screen.rest()
    assert screen.process.returncode == 0
    assert left(admin)["pgflow.runs"] == 2


def test_ctrl_c_ends_it_and_says_how_far_it_came(database: str, admin: Admin) -> None:
    admin.execute(SLOW)
    with on_terminal("-m", "pgflow_starter", *PRUNE, "--yes", env={"PGFLOW_DSN": database}) as screen:
        screen.read_until("deleting, 0 of 4")
        screen.process.send_signal(signal.SIGINT)
        shown = screen.rest()
    assert "0 runs deleted so far, and perhaps one batch more: the same command goes on with the rest" in shown
    assert screen.process.returncode == 130


def test_what_keeps_it_from_deleting_all_is_said(database: str, admin: Admin) -> None:
    with psycopg.connect(database) as other:
        other.execute("select from pgflow.runs where status = 'failed' for update")
        some = call(*PRUNE, "--yes", "--dsn", database)
    assert (some.exit_code, some.stdout.splitlines()[-1]) == (1, "2 runs deleted")
    assert some.stderr == "Error: 2 runs left, which somebody has locked: try again later\n"
    with opened(database) as store:
        steps = pruning(store, pgflow.Retention())
        next(steps)
        none = call(*PRUNE, "--yes", "--dsn", database)
        steps.close()
    assert none.exit_code == 1
    assert none.stderr == "Error: another process deletes old runs of this database already: try again later\n"


@pytest.mark.parametrize("age", ["a month", "-1", "40000d"])
def test_what_is_no_age_is_bad_usage(age: str) -> None:
    result = call("db", "prune", "--older-than", age)
    assert result.exit_code == 2
    assert "--older-than" in result.stderr
