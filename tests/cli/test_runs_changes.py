"""`runs cancel`, `rerun`, `delete`: asked for, done to each, and told, to persons and to scripts."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import psycopg
import pytest

import pgflow_starter as pgflow
from tests.postgres.rights_rig import Admin, compiled
from tests.support.commands import call
from tests.support.starters import echo_job
from tests.support.terminal import on_terminal
from tests.support.waiting import eventually

PROGRAM = ("-m", "pgflow_starter", "runs")
NOBODY = str(UUID(int=0))


class Shop:
    """A database with two jobs, on which nobody works."""

    def __init__(self, conninfo: str, admin: Admin, client: pgflow.PgflowClient) -> None:
        self.env = {"PGFLOW_DSN": conninfo}
        self.admin = admin
        self.client = client

    def call(self, *arguments: str) -> Any:
        """The command, in this process."""
        return call("runs", *arguments, env=self.env)

    def completed(self, *inputs: Any) -> list[str]:
        """Runs of the first job that a worker completed, with these inputs."""
        runs = [str(run.id) for run in self.client.enqueue_many("echo", inputs)]
        started = "update pgflow.step_tasks set status = 'started', started_at = now() where run_id = any(%s::uuid[])"
        self.admin.execute(started, (runs,))
        for run in runs:
            self.admin.execute("select pgflow.complete_task(%s, 'echo', 0, '1'::jsonb)", (run,))
        return runs

    def statuses(self, *runs: str) -> list[str]:
        """Theirs; that of a run that is not there is left out."""
        there = {str(run.id): run.status for run in self.client.runs(limit=1000)}
        return [there[run] for run in runs if run in there]


@pytest.fixture
def shop(database: str) -> Iterator[Shop]:
    with psycopg.connect(database, autocommit=True) as admin, pgflow.PgflowClient(database) as client:
        compiled(admin, echo_job(), echo_job("other"))
        yield Shop(database, admin, client)


def test_one_run_is_cancelled_unasked_for_the_reason_given_and_again_is_no_harm(shop: Shop) -> None:
    run = shop.client.enqueue("echo")
    for _ in range(2):
        result = shop.call("cancel", str(run.id), "--reason", "ordered twice")
        assert (result.exit_code, result.stdout, result.stderr) == (0, f"{run.id} cancelled\n", "")
    assert (run.refresh().status, run.refresh().error) == ("failed", "ordered twice")
    otherwise = shop.call("cancel", str(run.id))
    assert (otherwise.exit_code, otherwise.stdout) == (1, "")
    assert otherwise.stderr == f"Error: run {run.id} had ended before: it is failed\n"


def test_of_several_runs_each_is_told_and_whether_all_are_cancelled(shop: Shop) -> None:
    (done,) = shop.completed(1)
    runs = [str(run.id) for run in shop.client.enqueue_many("echo", [1, 2])]
    result = shop.call("cancel", runs[0], NOBODY, done, runs[1], runs[0], "--yes")
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        f"{runs[0]} cancelled",
        f"{NOBODY} not cancelled: there is no run {NOBODY}",
        f"{done} not cancelled: run {done} had ended before: it is completed",
        f"{runs[1]} cancelled",
    ]
    assert result.stderr == "Error: 2 of 4 runs cancelled\n"
    assert shop.statuses(done, *runs) == ["completed", "failed", "failed"]


@pytest.mark.parametrize(
    ("command", "nothing"),
    [("cancel", "nothing was cancelled"), ("rerun", "nothing was started"), ("delete", "nothing was deleted")],
)
def test_a_script_that_does_not_say_yes_to_several_changes_nothing(shop: Shop, command: str, nothing: str) -> None:
    runs = shop.completed(1, 2) if command != "cancel" else [str(r.id) for r in shop.client.enqueue_many("echo", "ab")]
    before = shop.client.runs()
    result = shop.call(command, *runs)
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"{nothing}: standard input is no terminal where to ask; --yes does it unasked" in result.stderr
    assert shop.client.runs() == before


def test_as_json_what_was_done_to_each_is_one_document_also_where_not_all_is(shop: Shop) -> None:
    (done,) = shop.completed({"n": 2**60 + 1})
    (waiting,) = (str(run.id) for run in [shop.client.enqueue("echo")])
    again = shop.call("rerun", done, waiting, "--yes", "--json")
    assert (again.exit_code, again.stderr) == (1, "Error: 1 of 2 runs started anew\n")
    first, second = json.loads(again.stdout)["runs"]
    new_id = first.pop("new_id")
    assert first == {"id": done, "done": True, "problem": None}
    assert (second["id"], second["done"]) == (waiting, False)
    assert second["problem"].startswith(f"run {waiting} of flow 'echo' has not ended, it is started")
    assert shop.client.run(new_id).input == {"n": 2**60 + 1}
    gone = shop.call("delete", done, "--yes", "--json")
    assert (gone.exit_code, gone.stderr) == (0, "")
    assert json.loads(gone.stdout) == {"runs": [{"id": done, "done": True, "problem": None}]}
    stopped = shop.call("cancel", waiting, "--json")
    assert json.loads(stopped.stdout) == {"runs": [{"id": waiting, "done": True, "problem": None}]}


def test_runs_that_failed_are_started_anew_by_flow_and_age(shop: Shop) -> None:
    (_,) = shop.completed("completed")
    failed = [str(run.id) for run in shop.client.enqueue_many("echo", ["old", "young", "young"])]
    failed.append(str(shop.client.enqueue("other", "other").id))
    assert shop.call("cancel", *failed, "--yes").exit_code == 0
    shop.admin.execute("update pgflow.runs set started_at = started_at - interval '1 day' where input = '\"old\"'")
    result = shop.call("rerun", "--status", "failed", "--flow", "echo", "--since", "1h", "--yes")
    assert (result.exit_code, result.stderr) == (0, "")
    assert {line.split(" started anew as ")[0] for line in result.stdout.splitlines()} == set(failed[1:3])
    started = shop.client.runs(status="started")
    assert [shop.client.run(run.id).input for run in started] == ["young", "young"]
    assert shop.call("rerun", "--status", "completed", "--since", "0s").stdout == ""


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("rerun",), "give either RUN_IDs, or which runs: --status, --flow, --since"),
        (("rerun", NOBODY, "--flow", "echo"), "give either RUN_IDs, or which runs"),
        (("rerun", "--status", "started"), "'started' is not one of 'completed', 'failed'"),
        (("cancel",), "Missing argument 'RUN_ID...'"),
        (("delete", "seven"), "'seven' is not a valid UUID"),
    ],
    ids=" ".join,
)
def test_what_cannot_be_asked_is_bad_usage(arguments: tuple[str, ...], problem: str) -> None:
    result = call("runs", *arguments)
    assert result.exit_code == 2
    assert problem in result.stderr


def test_a_run_is_deleted_and_one_that_has_not_ended_is_not(shop: Shop) -> None:
    (done,) = shop.completed(1)
    waiting = str(shop.client.enqueue("echo").id)
    result = shop.call("delete", waiting, done, "--yes")
    assert (result.exit_code, result.stderr) == (1, "Error: 1 of 2 runs deleted\n")
    refused, deleted = result.stdout.splitlines()
    assert refused.startswith(f"{waiting} not deleted: run {waiting} is not finished")
    assert deleted == f"{done} deleted"
    assert shop.statuses(waiting, done) == ["started"]


@pytest.mark.parametrize(("answer", "code"), [("y", 0), ("n", 1)])
def test_a_person_is_asked_before_even_one_run_is_deleted(shop: Shop, answer: str, code: int) -> None:
    (done,) = shop.completed(1)
    with on_terminal(*PROGRAM, "delete", done, env=shop.env) as screen:
        screen.read_until(f"Delete run {done}, for good? [y/N]: ")
        screen.type(f"{answer}\n")
        shown = screen.rest().replace("\r\n", "\n")
    assert screen.process.returncode == code
    assert (f"{done} deleted\n" if code == 0 else "\nError: nothing was deleted\n") in shown
    assert shop.statuses(done) == ["completed"] * code


def test_ctrl_c_amid_several_says_how_many_are_done(shop: Shop) -> None:
    first, locked, last = (str(run.id) for run in shop.client.enqueue_many("echo", [1, 2, 3]))
    with psycopg.connect(shop.env["PGFLOW_DSN"]) as holder:
        holder.execute("select from pgflow.runs where run_id = %s for update", (locked,))
        with on_terminal(*PROGRAM, "cancel", first, locked, last, "--yes", env=shop.env) as screen:
            screen.read_until(f"{first} cancelled")
            waiting = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = %s"
            eventually(lambda: shop.admin.execute(waiting, (shop.admin.info.dbname,)).fetchone() == (1,))
            screen.process.send_signal(signal.SIGINT)
            shown = screen.rest().replace("\r\n", "\n")
    assert screen.process.returncode == 130
    assert shown.endswith("Error: 1 of 3 runs cancelled, and perhaps one more\n")
    assert shop.statuses(last) == ["started"]


def test_a_database_that_is_away_is_one_line_and_how_many_were_done() -> None:
    result = call("runs", "cancel", NOBODY, "--dsn", "postgresql://me:hush-hush@127.0.0.1:1/shop")
    assert (result.exit_code, result.stdout, len(result.stderr.splitlines())) == (1, "", 1)
    assert result.stderr.endswith("; 0 of 1 runs cancelled\n")
    assert "hush" not in result.stderr
