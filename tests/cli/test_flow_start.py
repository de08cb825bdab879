"""`flow start`: runs started, waited for and told, on a real database."""

from __future__ import annotations

import json
import re
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

import pgflow_starter as pgflow
from pgflow_starter.core.keys import run_id_of
from pgflow_starter.postgres.embedded.server import EmbeddedPostgres
from pgflow_starter.postgres.setup.install import install
from tests.support.commands import call
from tests.support.databases import FAST, memory_folder
from tests.support.programs import finished, read_until, running
from tests.support.starters import running as starter_running

PROGRAM = ("-m", "pgflow_starter")


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What the slow job waits for."""
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def shop(database: str, gate: threading.Event) -> Iterator[str]:
    """The connection string of a database whose jobs are run by a starter in this process."""

    @pgflow.job("greet", max_attempts=1)
    def greet(name: Any, ctx: pgflow.TaskContext) -> Any:
        if name == "nobody":
            raise ValueError("there is \x1b[31mnobody")
        return {"grüß": name}

    @pgflow.job("slow")
    def slow(given: Any, ctx: pgflow.TaskContext) -> Any:
        gate.wait(30)
        return given

    with starter_running(database, jobs=[greet, slow], signal_strategy="notify") as starter:
        starter.await_ready(30)
        yield database
        gate.set()


def test_it_tells_the_run_s_id_and_does_not_wait(shop: str) -> None:
    result = call("flow", "start", "greet", '"ada"', env={"PGFLOW_DSN": shop})
    assert (result.exit_code, result.stderr) == (0, "")
    with pgflow.PgflowClient(shop) as client:
        assert client.run(UUID(result.stdout.strip())).wait(10).result == {"grüß": "ada"}


def test_with_wait_it_tells_the_output(shop: str) -> None:
    result = call("flow", "start", "greet", '"ada"', "--dsn", shop, "--wait")
    run_id, output = result.stdout.splitlines()
    assert (result.exit_code, result.stderr) == (0, "")
    assert str(UUID(run_id)) == run_id
    assert output == '{"greet": {"grüß": "ada"}}'


@pytest.mark.parametrize("given", ["-", "@message.json"])
def test_the_input_may_come_from_elsewhere(
    shop: str, given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "message.json").write_text('["grace"]')
    result = call("flow", "start", "greet", given, "--wait", "10", "--dsn", shop, input='["grace"]')
    assert json.loads(result.stdout.splitlines()[1]) == {"greet": {"grüß": ["grace"]}}


def test_as_json_all_of_the_run_is_one_line(shop: str) -> None:
    run_id = str(uuid4())
    env = {"PGFLOW_DSN": shop, "PGFLOW_WAIT": "10", "PGFLOW_JSON": "1", "PGFLOW_RUN_ID": run_id}
    first, again = (json.loads(call("flow", "start", "greet", '"ada"', env=env).stdout) for _ in range(2))
    assert first == again
    assert first["started_at"] <= first["ended_at"]
    del first["started_at"], first["ended_at"]
    assert first == {
        "id": run_id,
        "flow_slug": "greet",
        "status": "completed",
        "input": "ada",
        "output": {"greet": {"grüß": "ada"}},
        "error": None,
        "notes": [],
        "input_differs": False,
    }


def test_the_same_key_tells_the_same_run_and_that_its_input_is_another(shop: str) -> None:
    env = {"PGFLOW_DSN": shop}
    first = call("flow", "start", "greet", '"ada"', "--key", "welcome", "--wait", env=env)
    again = call("flow", "start", "greet", '"grace"', "--key", "welcome", "--wait", env=env)
    assert (first.exit_code, first.stderr) == (again.exit_code, "") == (0, "")
    assert first.stdout == again.stdout
    run_id = pgflow.run_id_of("greet", "welcome")
    assert first.stdout.startswith(str(run_id))
    assert again.stderr == f"Note: run {run_id} was started before, with another input\n"


@pytest.mark.parametrize("when", [("--delay", "12h"), ("--at", "2126-12-24T18:00+01:00")])
def test_a_run_may_begin_later(shop: str, when: tuple[str, str]) -> None:
    result = call("flow", "start", "greet", '"ada"', *when, "--dsn", shop)
    assert (result.exit_code, result.stderr) == (0, "")
    with psycopg.connect(shop) as connection:
        row = connection.execute("select vt > now() + interval '11 hours' from pgmq.q_greet").fetchone()
    assert row == (True,)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--delay", "soon"), "'soon' is not a duration; write 30 or 30s"),
        (("--at", "noon"), "'noon' is not a time with its offset from UTC"),
        (("--at", "2026-12-24T18:00"), "'2026-12-24T18:00' is not a time with its offset from UTC"),
        (("--delay", "1", "--at", "2026-12-24T18:00Z"), "give --delay or --at, not both"),
        (("--key", ""), "a key must not be empty"),
        (("--key", "a", "--run-id", str(UUID(int=1))), "give --key or --run-id, not both"),
    ],
)
def test_a_bad_time_or_key_is_bad_usage(options: tuple[str, ...], words: str) -> None:
    result = call("flow", "start", "greet", "1", *options, "--dsn", "host=127.0.0.1 port=1")
    assert result.exit_code == 2
    assert words in " ".join(result.stderr.replace("│", " ").split())


def test_a_run_that_fails_is_exit_code_1_and_the_reason_in_one_line(shop: str) -> None:
    result = call("flow", "start", "greet", '"nobody"', "--wait", "10", "--dsn", shop)
    assert result.exit_code == 1
    assert len(result.stdout.splitlines()) == 1
    assert result.stderr.splitlines()[-1] == "Error: the run failed: ValueError: there is [31mnobody"


def test_a_run_that_takes_longer_is_shown_and_in_the_end_left_to_itself(shop: str) -> None:
    result = call("flow", "start", "slow", "{}", "--wait", "1.3", "--dsn", shop)
    assert result.exit_code == 3
    run_id = result.stdout.strip()
    progress, error = result.stderr.splitlines()
    assert progress.endswith(" s  slow: started, 0 of 1 tasks done")
    assert error == (
        f"Error: the run is not finished after 1.3 s and goes on: `pgflow-starter runs show {run_id} --watch` tells how"
    )


def test_ctrl_c_leaves_the_run_alone(shop: str, gate: threading.Event) -> None:
    with running(*PROGRAM, "flow", "start", "slow", "7", "--wait", env={"PGFLOW_DSN": shop}) as program:
        read_until(program.stderr, "slow: started")
        program.send_signal(signal.SIGINT)
        said, error = program.communicate()
    run_id = said.strip()
    assert program.returncode == 130
    assert error == f"Error: run {run_id} goes on, and nobody waits for it here any more\n"
    gate.set()
    with pgflow.PgflowClient(shop) as client:
        assert client.run(run_id).wait(10).result == 7


def test_a_database_that_goes_away_meanwhile_is_waited_out(pg_version: int, gate: threading.Event) -> None:
    @pgflow.job("slow")
    def slow(given: Any, ctx: pgflow.TaskContext) -> Any:
        gate.wait(30)
        return given

    with EmbeddedPostgres(version=pg_version, settings=FAST, parent=memory_folder()) as server:
        dsn = server.conninfo()
        install(dsn)
        with (
            starter_running(dsn, jobs=[slow]) as starter,
            running(*PROGRAM, "flow", "start", "slow", "7", "--wait", env={"PGFLOW_DSN": dsn}) as program,
        ):
            starter.await_ready(30)
            read_until(program.stderr, "slow: started")
            server.stop()
            read_until(program.stderr, "the database cannot be reached")
            server.start()
            gate.set()
            said, _ = program.communicate()
    assert said.splitlines()[1:] == ['{"slow": 7}']
    assert program.returncode == 0


@pytest.mark.parametrize(
    ("slug", "given", "code", "words"),
    [
        ("nothing", "{}", 1, "Error: flow 'nothing' is not in the database: start a starter that has it"),
        ("greet", "NaN", 2, "Error: input is nan, which JSON cannot express"),
    ],
)
def test_what_cannot_be_started_is_one_line(database: str, slug: str, given: str, code: int, words: str) -> None:
    result = call("flow", "start", slug, given, "--dsn", database)
    assert (result.exit_code, result.stdout) == (code, "")
    assert result.stderr.splitlines()[-1].startswith(words)


def test_a_database_without_pgflow_names_the_command_that_installs_it(empty_database: str) -> None:
    result = call("flow", "start", "greet", "{}", "--dsn", empty_database)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "pgflow-starter db install" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_database_that_cannot_be_reached_is_one_line_without_the_password() -> None:
    done = finished(*PROGRAM, "flow", "start", "greet", "{}", "--dsn", "postgresql://me:hush-hush@127.0.0.1:1/shop")
    assert (done.returncode, done.stdout) == (1, "")
    assert "the database cannot be reached; check that it runs" in done.stderr
    assert "hush" not in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("keyed", [False, True])
def test_ctrl_c_while_the_database_is_asked_tells_the_run_s_id_and_what_is_safe_then(keyed: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        dsn = f"host=127.0.0.1 port={silent.getsockname()[1]} user=me dbname=shop"
        key = ["--key", "k"] if keyed else []
        with running(*PROGRAM, "flow", "start", "greet", "{}", *key, env={"PGFLOW_DSN": dsn}) as program:
            taken, _ = silent.accept()
            with taken:
                program.send_signal(signal.SIGINT)
                said, error = program.communicate()
    assert (program.returncode, said) == (130, "")
    again = "" if keyed else r" with --run-id (?P=id)"
    told = rf"Error: run (?P<id>\S+) may be started or not; the same command{again} starts it once at most\n"
    found = re.fullmatch(told, error)
    assert found is not None, error
    assert not keyed or UUID(found["id"]) == run_id_of("greet", "k")


def test_ctrl_c_while_a_database_is_looked_into_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        dsn = f"host=127.0.0.1 port={silent.getsockname()[1]} user=me dbname=shop"
        with running(*PROGRAM, "db", "check", env={"PGFLOW_DSN": dsn}) as program:
            taken, _ = silent.accept()
            with taken:
                program.send_signal(signal.SIGINT)
                said = program.communicate()
    assert (program.returncode, *said) == (130, "", "Error: interrupted\n")


def test_a_standard_input_that_is_closed_is_one_line() -> None:
    closed = "import os, sys; os.close(0); os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    done = finished("-c", closed, *PROGRAM, "flow", "start", "greet", "-")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1] == "Error: the input cannot be read: standard input is closed"


def test_an_output_in_letters_that_the_terminal_lacks_is_escaped(shop: str) -> None:
    env = {"PGFLOW_DSN": shop, "PYTHONIOENCODING": "ascii"}
    done = finished(*PROGRAM, "flow", "start", "greet", '"ada"', "--wait", "10", env=env)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout.splitlines()[1]) == {"greet": {"grüß": "ada"}}
