"""`manage.py pgflow`: the commands of `pgflow-starter` on Django's databases."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import override_settings

from pgflow_starter.cli import run as cli_run
from pgflow_starter.django.discovery import discovered
from pgflow_starter.django.management.commands import pgflow
from pgflow_starter.django.middleware import connections_closed
from tests.django.conftest import Databases, of
from tests.support.commands import logging_as_it_was
from tests.support.programs import finished

FOUND = (
    "pgflow_starter.django.flows:tasks_e_mails",
    "pgflow_starter.django.flows:tasks_default",
    "tests.django.app.flows:note",
    "tests.django.app.flows:hourly",
)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What `manage.py pgflow run` would start a starter with."""
    begun: dict[str, Any] = {}

    def start(dsn: str, **settings: Any) -> None:
        begun.update(settings, dsn=dsn)
        raise ValueError("enough")

    monkeypatch.setattr(cli_run, "start", start)
    return begun


def exit_code(*command: str) -> object:
    """Of `manage.py pgflow` with these words."""
    with logging_as_it_was(), pytest.raises(SystemExit) as end:
        call_command("pgflow", *command)
    return end.value.code


def test_what_is_in_the_flows_of_installed_apps_is_found_once() -> None:
    assert discovered() == FOUND


def test_run_is_of_what_is_found_on_the_database_and_with_the_settings_that_are_named(
    database: str, other: str, databases: Databases, started: dict[str, Any]
) -> None:
    databases(default=of(database), other=of(other))
    start = {"signal_strategy": "notify", "pool_size": 7, "max_concurrency": 3, "log_errors": "type"}
    with override_settings(PGFLOW={"START": start}):
        assert exit_code("run", "--concurrency", "4") == 2
        assert (started["flows"], started["jobs"]) == ([], [*FOUND[:3]])
        assert [schedule.title for schedule in started["schedules"]] == ["note"]
        assert started["middleware"] == (connections_closed,)
        assert {name: started[name] for name in start} == {**start, "max_concurrency": 4}
        assert f"dbname={database.rpartition('dbname=')[2]}" in started["dsn"]
        assert exit_code("--database=other", "run", FOUND[2]) == 2
        assert (started["flows"], started["jobs"]) == ([], [FOUND[2]])
        assert f"dbname={other.rpartition('dbname=')[2]}" in started["dsn"]


def test_a_dsn_of_the_command_s_own_goes_before_that_of_the_project(
    database: str, databases: Databases, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    databases(default=of("host=localhost port=1 dbname=nowhere user=nobody"))
    call_command("pgflow", "db", "check", "--dsn", database)
    monkeypatch.setenv("PGFLOW_DSN", database)
    call_command("pgflow", "db", "check")
    assert capsys.readouterr().out.count("flows can run here as role 'postgres'") == 2


def test_what_cannot_be_done_is_one_line(
    databases: Databases, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    databases(default=of("host=localhost port=1 dbname=shop user=nobody"))
    with pytest.raises(CommandError, match="'no' is none of the aliases in DATABASES: 'default'"):
        call_command("pgflow", "--database=no", "db", "check")
    monkeypatch.setattr(pgflow, "discovered", lambda: ())
    assert exit_code("run") == 2
    assert "no flows.py of an installed app has a Flow, a job or a Schedule: name a MODULE" in capsys.readouterr().err
    assert exit_code("demo") == 2


@pytest.mark.parametrize("missing", ["click", "rich"])
def test_without_its_extra_the_command_names_it(missing: str) -> None:
    done = finished("-c", f"import sys; sys.modules[{missing!r}] = None; import {pgflow.__name__}")
    told = f"MissingExtraError: manage.py pgflow needs {missing}: pip install '.[django]'"
    assert told in done.stderr.splitlines()[-1]
