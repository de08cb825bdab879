"""`runs list` and `runs show`: what a database's runs have come to, for persons and for scripts."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import psycopg
import pytest

import pgflow_starter as pgflow
from pgflow_starter.postgres.embedded.server import EmbeddedPostgres
from tests.postgres.rights_rig import Admin, compiled
from tests.support.commands import call
from tests.support.databases import fresh_database
from tests.support.programs import read_until, running
from tests.support.starters import echo_job
from tests.support.starters import running as starter_running
from tests.support.terminal import on_terminal

PROGRAM = ("-m", "pgflow_starter", "runs")
LONG_SLUG = "a_flow_with_a_rather_long_name_of_forty_seven_c"
NOBODY = str(UUID(int=0))
WAIT = 30.0


class Shop:
    """A database with a run that succeeded in its second attempt, one that failed, and one that nobody works on."""

    def __init__(self, conninfo: str, starter: pgflow.Starter) -> None:
        self.env = {"PGFLOW_DSN": conninfo}
        client = starter.client
        self.mended = client.start_flow(LONG_SLUG, {"card": "s3cr3t"}).wait(WAIT)
        self.failed = client.enqueue("failing", "no [red]such\x1b[31m thing").wait(WAIT)
        self.left = client.enqueue("left")

    def call(self, *arguments: str) -> Any:
        """The command, in this process."""
        return call("runs", *arguments, env=self.env)


@pytest.fixture(scope="module")
def shop(server: EmbeddedPostgres, template: str) -> Iterator[Shop]:
    """One for all that only look."""
    flow = pgflow.Flow(LONG_SLUG, base_delay=0)

    @flow.step()
    def items(given: Any, ctx: pgflow.TaskContext) -> Any:
        return [1, 2]

    @flow.map(array="items")
    def doubled(item: Any, ctx: pgflow.TaskContext) -> Any:
        if item == 2 and ctx.attempt == 1:
            raise RuntimeError("once more")
        return item * 2

    @pgflow.job("failing", max_attempts=1)
    def failing(message: Any, ctx: pgflow.TaskContext) -> Any:
        raise ValueError(message)

    with fresh_database(server, template) as conninfo:
        with psycopg.connect(conninfo) as admin:
            compiled(admin, echo_job("left"))
        with starter_running(conninfo, flows=[flow], jobs=[failing]) as starter:
            starter.await_ready(WAIT)
            made = Shop(conninfo, starter)
        yield made


class Slow:
    """A run that goes on until it is ended."""

    def __init__(self, conninfo: str, admin: Admin, run: pgflow.Run) -> None:
        self.env = {"PGFLOW_DSN": conninfo}
        self.id = run.id
        self._admin = admin

    def end(self) -> None:
        """As a worker does."""
        for change in (
            "update pgflow.step_tasks set status = 'started', started_at = now() where run_id = %s",
            "select pgflow.complete_task(%s, 'slow', 0, 'null'::jsonb)",
        ):
            self._admin.execute(change.encode(), (self.id,))


@pytest.fixture
def slow(database: str) -> Iterator[Slow]:
    with psycopg.connect(database, autocommit=True) as admin, pgflow.PgflowClient(database) as client:
        compiled(admin, echo_job("slow"))
        yield Slow(database, admin, client.enqueue("slow"))


def rows(told: str) -> list[list[str]]:
    """Those of a table."""
    return [line.split() for line in told.splitlines() if line.strip() and not line.strip().startswith("─")]


def test_a_list_has_the_newest_first_and_of_a_page_how_to_go_on(shop: Shop) -> None:
    result = shop.call("list")
    assert (result.exit_code, result.stderr) == (0, "")
    head, *listed = rows(result.stdout)
    assert head == ["run", "status", "age", "took", "flow"]
    assert [(row[0], row[1], row[-1]) for row in listed] == [
        (str(shop.left.id), "started", "left"),
        (str(shop.failed.id), "failed", "failing"),
        (str(shop.mended.id), "completed", LONG_SLUG),
    ]
    page = shop.call("list", "--limit", "2")
    assert page.stderr == f"there may be more: --after {shop.failed.id}\n"
    (last,) = rows(shop.call("list", "--after", str(shop.failed.id)).stdout)[1:]
    assert last[0] == str(shop.mended.id)


def test_a_list_is_of_the_runs_that_were_asked_for(shop: Shop) -> None:
    def ids(*arguments: str) -> list[str]:
        return [row[0] for row in rows(shop.call("list", *arguments).stdout)[1:]]

    assert ids("--status", "failed") == ids("--flow", "failing", "--since", "1h") == [str(shop.failed.id)]
    assert ids("--since", shop.left.started_at.isoformat() if shop.left.started_at else "") == [str(shop.left.id)]
    assert shop.call("list", "--flow", "nobody").stdout == "no runs\n"


def test_as_json_a_list_is_an_object_that_says_where_the_next_page_begins(shop: Shop) -> None:
    page = json.loads(shop.call("list", "--json", "--limit", "2").stdout)
    assert [run["id"] for run in page["runs"]] == [str(shop.left.id), str(shop.failed.id)]
    assert page["after"] == str(shop.failed.id)
    last = json.loads(shop.call("list", "--json", "--limit", "2", "--after", page["after"]).stdout)
    assert last["after"] is None
    (run,) = last["runs"]
    assert shop.mended.started_at is not None
    assert shop.mended.ended_at is not None
    assert run == {
        "id": str(shop.mended.id),
        "flow_slug": LONG_SLUG,
        "status": "completed",
        "started_at": shop.mended.started_at.isoformat(),
        "ended_at": shop.mended.ended_at.isoformat(),
        "steps": [
            {"slug": "items", "status": "completed", "tasks": 1, "remaining": 0, "reason": None},
            {"slug": "doubled", "status": "completed", "tasks": 2, "remaining": 0, "reason": None},
        ],
        "notes": [],
    }


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("list", "--since", "soon"), "neither a duration (30s, 15m, 12h, 30d) nor a time (2030-01-02T03:04:05Z)"),
        (("list", "--since", "2030-01-02"), "has no time zone: write 2030-01-02T00:00:00Z for UTC"),
        (("list", "--since", "0001-01-01T00:00+01:00"), "within the years 1 to 9999 in UTC"),
        (("list", "--status", "done"), "'done' is not one of 'started', 'completed', 'failed'"),
        (("list", "--limit", "10001"), "10001 is not in the range 1<=x<=10000"),
        (("list", "--after", "seven"), "'seven' is not a valid UUID"),
        (("show", "seven"), "'seven' is not a valid UUID"),
    ],
    ids=" ".join,
)
def test_what_cannot_be_asked_is_bad_usage(arguments: tuple[str, ...], problem: str) -> None:
    result = call("runs", *arguments)
    assert result.exit_code == 2
    assert problem in result.stderr


@pytest.mark.parametrize("arguments", [("list", "--after", NOBODY), ("show", NOBODY), ("show", NOBODY, "--watch")])
def test_a_run_of_nobody_is_one_line_and_exit_code_1(database: str, arguments: tuple[str, ...]) -> None:
    result = call("runs", *arguments, env={"PGFLOW_DSN": database})
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"Error: there is no run {NOBODY}")


@pytest.mark.parametrize("arguments", [("list",), ("list", "--watch"), ("show", NOBODY, "--watch", "--json")])
def test_a_database_that_cannot_be_reached_is_one_line_without_the_password(arguments: tuple[str, ...]) -> None:
    result = call("runs", *arguments, "--dsn", "postgresql://me:hush-hush@127.0.0.1:1/shop")
    assert (result.exit_code, result.stdout, len(result.stderr.splitlines())) == (1, "", 1)
    assert "hush" not in result.stderr


def test_a_run_that_failed_is_shown_with_its_traceback_and_without_what_it_carries(shop: Shop) -> None:
    result = shop.call("show", str(shop.failed.id))
    assert (result.exit_code, result.stderr) == (0, "")
    head, began, error, *rest = result.stdout.splitlines()
    assert head == f"run {shop.failed.id}: failed, of failing"
    assert re.fullmatch(r"began \d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}Z, \d+ s ago, took \d+\.\d s", began)
    assert error == "error: ValueError: no [red]such[31m thing"
    assert rows("\n".join(rest))[1][:6] == ["failing", "failed", "0", "of", "1", "1"]
    assert "failing: failed, 1 attempt, queued " in result.stdout
    assert "    ValueError: no [red]such�[31m thing\n      File " in result.stdout
    assert "        raise ValueError(message)" in result.stdout
    assert "input:" not in result.stdout


def test_a_run_that_succeeded_is_shown_with_the_attempts_that_failed_and_what_it_carries_on_request(shop: Shop) -> None:
    result = shop.call("show", str(shop.mended.id))
    assert "doubled[1]: completed, 2 attempts, queued " in result.stdout
    assert "    the last attempt that failed:\n    RuntimeError: once more\n" in result.stdout
    assert "doubled[0]" not in result.stdout
    assert "s3cr3t" not in result.stdout
    with_payloads = shop.call("show", str(shop.mended.id), "--payloads").stdout
    assert 'input:\n    {\n      "card": "s3cr3t"\n    }\n' in with_payloads
    assert "output of items:\n    [\n      1,\n      2\n    ]\noutput of doubled:\n    [\n" in with_payloads


def test_as_json_a_run_has_all_its_tasks_and_what_it_carries_on_request(shop: Shop) -> None:
    bare = json.loads(shop.call("show", str(shop.mended.id), "--json").stdout)
    whole = json.loads(shop.call("show", str(shop.mended.id), "--json", "--payloads").stdout)
    names = ["id", "flow_slug", "status", "error", "started_at", "ended_at", "notes"]
    assert list(bare) == [*names, "workers_alive", "steps", "tasks"]
    assert (bare["id"], bare["status"], bare["error"]) == (str(shop.mended.id), "completed", None)
    assert [(t["step_slug"], t["index"], t["status"], t["attempts"]) for t in bare["tasks"]] == [
        ("items", 0, "completed", 1),
        ("doubled", 0, "completed", 1),
        ("doubled", 1, "completed", 2),
    ]
    assert bare["tasks"][2]["error"].startswith("RuntimeError: once more\n")
    assert list(bare["tasks"][0])[4:] == ["error", "queued_at", "started_at", "ended_at", "worker_id", "notes"]
    assert "output" not in bare["steps"][0]
    assert (whole.pop("input"), whole.pop("output")) == ({"card": "s3cr3t"}, {"doubled": [2, 4]})
    assert [step.pop("output") for step in whole["steps"]] == [[1, 2], [2, 4]]
    assert whole == bare


def test_before_a_terminal_of_80_columns_nothing_is_cut(shop: Shop) -> None:
    narrow = {**shop.env, "COLUMNS": "80", "NO_COLOR": "1"}
    with on_terminal(*PROGRAM, "show", str(shop.mended.id), env=narrow) as screen:
        shown = "".join(screen.rest().split())
    assert screen.process.returncode == 0
    assert f"run{shop.mended.id}:completed,of{LONG_SLUG}" in shown
    assert "…" not in shown


def test_one_that_watches_is_told_what_is_new_and_leaves_when_the_run_has_ended(slow: Slow) -> None:
    watching = ("show", str(slow.id), "--watch", "--interval", "0.1")
    with running(*PROGRAM, *watching, env=slow.env) as program:
        before = read_until(program.stdout, f"run {slow.id} of slow: started")
        slow.end()
        told, errors = program.communicate()
    assert (program.returncode, errors) == (0, "")
    assert "nobody runs it: no worker of slow is alive; start a starter that has it\n" in before
    assert [re.sub(r"^ *\d+\.\d\d s  ", "", line) for line in told.splitlines()] == [
        "slow: completed, 1 of 1 tasks done",
        f"run {slow.id} of slow: completed",
    ]


def test_a_run_that_has_ended_before_it_is_watched_is_told_at_once(shop: Shop) -> None:
    failed, mended = (shop.call("show", str(run.id), "--watch") for run in (shop.failed, shop.mended))
    assert (failed.exit_code, mended.exit_code, failed.stderr, mended.stderr) == (1, 0, "", "")
    assert "failing: failed for good in attempt 1: ValueError: no [red]such" in failed.stdout
    assert "doubled[1]: attempt 1 failed: RuntimeError: once more\n" in mended.stdout


def test_ctrl_c_while_it_watches_leaves_the_run_alone(slow: Slow) -> None:
    with running(*PROGRAM, "show", str(slow.id), "--watch", env=slow.env) as program:
        read_until(program.stdout, "of slow: started")
        program.send_signal(signal.SIGINT)
        _, errors = program.communicate()
    assert program.returncode == 130
    assert errors == f"Error: run {slow.id} goes on, and nobody watches it here any more\n"


def test_a_list_that_is_watched_tells_each_run_once_and_what_became_of_it(slow: Slow) -> None:
    with running(*PROGRAM, "list", "--watch", "--interval", "0.1", env=slow.env) as program:
        read_until(program.stdout, f"{slow.id} started slow")
        slow.end()
        read_until(program.stdout, f"{slow.id} completed slow")
        program.send_signal(signal.SIGINT)
        told, errors = program.communicate()
    assert (program.returncode, told, errors) == (0, "", "")


def test_a_list_that_is_watched_on_a_terminal_is_a_table_that_changes(slow: Slow) -> None:
    with on_terminal(
        *PROGRAM, "list", "--watch", "--interval", "0.1", env={**slow.env, "NO_COLOR": "1", "COLUMNS": "80"}
    ) as screen:
        screen.read_until(f"{slow.id}   started")
        slow.end()
        screen.read_until(f"{slow.id}   completed")
        screen.process.send_signal(signal.SIGINT)
        screen.rest()
    assert screen.process.returncode == 0
