"""`run`, as a person and as a supervisor of processes meet it."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from pgflow_starter import PgflowClient, Run, UnknownFlowError
from pgflow_starter.cli import kinds
from pgflow_starter.cli import run as run_module
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
    TimerThread.await_due = dies

def dies(self):
    raise RuntimeError("boom")
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with modules, to be the current one."""
    (tmp_path / "shop.py").write_text(SHOP)
    (tmp_path / "doomed.py").write_text(DOOMED)
    return tmp_path


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
    monkeypatch.setattr(kinds, "load", hanging)
    try:
        assert kinds.named(["a:b", "c:d"], Signals()) == (["a:b", "c:d"], [], [])
    finally:
        go_on.set()


def test_a_path_may_lead_to_a_schedule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = f"{SHOP}\nnightly = pgflow.Schedule('0 7 * * *', order)\nwrong = object()\n"
    (tmp_path / "shop_with_schedule.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    paths = [f"shop_with_schedule:{name}" for name in ("order", "nightly", "press", "wrong")]
    flows, jobs, (schedule,) = kinds.named(paths, Signals())
    assert (flows, jobs) == ([paths[0], paths[3]], [paths[2]])
    assert (schedule.cron, schedule.slug) == ("0 7 * * *", "order")
