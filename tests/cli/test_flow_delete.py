"""`flow delete`: counted, asked, deleted; as a person at a terminal has it, and as a script."""

from __future__ import annotations

import signal
import threading
from contextlib import ExitStack
from typing import Any

import psycopg
import pytest

import pgflow_starter as pgflow
from tests.support.commands import call
from tests.support.starters import echo_job, running
from tests.support.terminal import on_terminal
from tests.support.waiting import eventually

DELETE = ("-m", "pgflow_starter", "flow", "delete", "echo")
QUESTION = "Delete flow 'echo' with all of this, for good? [y/N]: "


@pytest.fixture
def shop(database: str) -> str:
    """A database with a flow that has runs, and no worker."""
    with running(database, jobs=[echo_job()]) as starter:
        starter.await_ready(30)
        starter.client.enqueue("echo", 1).wait(30)
    with psycopg.connect(database, autocommit=True) as admin:
        admin.execute("select pgflow.start_flow('echo', '2')")
        admin.execute("delete from pgflow.workers")
    return database


def there(database: str) -> bool:
    """Whether the flow is."""
    with psycopg.connect(database) as admin:
        return bool(admin.execute("select from pgflow.flows where flow_slug = 'echo'").rowcount)


def test_a_script_says_yes_and_is_told_what_is_gone(shop: str) -> None:
    result = call("flow", "delete", "echo", "--yes", "--dsn", shop)
    assert result.exit_code == 0
    head, *counts, end = result.stdout.splitlines()
    assert head == f"flow 'echo' in database {shop.rpartition('dbname=')[2]!r}, 1 step"
    assert counts == [
        "  runs:     1 completed, 1 started",
        "  messages: 1 in the queue, 1 in the archive",
        "  workers:  none alive",
    ]
    assert end == "flow 'echo' is deleted, with 2 runs, its queue and its archive"
    assert result.stderr == "Warning: 1 run not finished, which nobody will finish\n"
    again = call("flow", "delete", "echo", "--yes", "--dsn", shop)
    assert (again.exit_code, again.stdout) == (1, "")
    assert again.stderr.startswith("Error: flow 'echo' is not in database ")


def test_a_script_that_does_not_say_yes_is_told_the_counts_and_deletes_nothing(shop: str) -> None:
    result = call("flow", "delete", "echo", "--dsn", shop)
    assert result.exit_code == 2
    assert "  runs:     1 completed, 1 started\n" in result.stdout
    assert "standard input is no terminal where to ask; --yes does it unasked" in result.stderr
    assert there(shop)


@pytest.mark.parametrize(("answer", "code"), [("y", 0), ("n", 1), ("", 1)])
def test_a_person_is_asked_and_no_is_meant_by_nothing(shop: str, answer: str, code: int) -> None:
    with on_terminal(*DELETE, env={"PGFLOW_DSN": shop}) as screen:
        shown = screen.read_until(QUESTION)
        assert "1 completed, 1 started" in shown
        screen.type(f"{answer}\n")
        shown = screen.rest().replace("\r\n", "\n")
    assert screen.process.returncode == code
    said = "flow 'echo' is deleted, with 2 runs" if code == 0 else "\nError: nothing was deleted\n"
    assert said in shown
    assert there(shop) == bool(code)


def test_ctrl_c_at_the_question_deletes_nothing(shop: str) -> None:
    with on_terminal(*DELETE, env={"PGFLOW_DSN": shop}) as screen:
        screen.read_until(QUESTION)
        screen.process.send_signal(signal.SIGINT)
        shown = screen.rest().replace("\r\n", "\n")
    assert screen.process.returncode == 130
    assert shown.endswith("\nError: nothing was deleted\n")
    assert there(shop)


def test_ctrl_c_while_it_waits_for_a_lock_says_what_may_be(shop: str) -> None:
    with ExitStack() as left_open, on_terminal(*DELETE, "--yes", env={"PGFLOW_DSN": shop}) as screen:
        holder = left_open.enter_context(psycopg.connect(shop))
        holder.execute("select pg_advisory_xact_lock(1, hashtext('echo'))")
        waiting = "select count(*) from pg_locks where locktype = 'advisory' and not granted"
        eventually(lambda: holder.execute(waiting).fetchone() == (1,))
        screen.process.send_signal(signal.SIGINT)
        shown = screen.rest().replace("\r\n", "\n")
    assert screen.process.returncode == 130
    assert shown.endswith("Error: flow 'echo' may be deleted or not: the same command again tells\n")


def test_workers_that_live_are_named_and_their_starter_makes_the_flow_anew(
    database: str, release: threading.Event
) -> None:
    begun = threading.Event()

    @pgflow.job("echo")
    def echo(message: Any, ctx: pgflow.TaskContext) -> Any:
        begun.set()
        if message == "slow":
            release.wait()
        return message

    with running(database, jobs=[echo]) as starter:
        starter.await_ready(30)
        gone = starter.client.enqueue(echo, "slow")
        assert begun.wait(30)
        result = call("flow", "delete", "echo", "--yes", env={"PGFLOW_DSN": database})
        assert result.exit_code == 0
        assert f"  workers:  1 alive\n    {starter.workers()[0].worker_id} of pgflow_starter, " in result.stdout
        assert "makes the flow anew, without a run and as its code has it" in result.stderr
        release.set()
        eventually(lambda: there(database) and starter.ready())
        assert starter.client.enqueue(echo, "after").wait(30).result == "after"
        with pytest.raises(pgflow.RunNotFoundError):
            starter.client.run(gone.id)


def test_a_database_that_cannot_be_reached_is_one_line_without_the_password() -> None:
    result = call("flow", "delete", "echo", "--yes", "--dsn", "postgresql://me:hush-hush@127.0.0.1:1/shop")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "hush" not in result.stderr
    assert len(result.stderr.splitlines()) == 1
