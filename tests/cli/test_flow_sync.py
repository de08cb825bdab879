"""`flow sync`: what the code declares into what the database has."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.commands import call
from tests.support.programs import finished

PROGRAM = ("-m", "pgflow_starter")
SHOP = """
import pgflow_starter as pgflow

print("hello from the import")
order = pgflow.Flow("order"{flow})

@order.step()
def validate(given, ctx): ...

@order.step(depends_on=["validate"]{step})
def charge(deps, ctx): ...

if __name__ == "__main__":
    import sys
    with pgflow.start(sys.argv[1], flows=[order]) as starter:
        starter.await_ready(30)
"""


def declare(folder: Path, flow: str = "", step: str = "", charge: str = "charge") -> None:
    """The module as somebody has it now."""
    (folder / "shop.py").write_text(SHOP.format(flow=flow, step=step).replace("charge", charge))


@pytest.fixture
def folder(tmp_path: Path, database: str) -> Path:
    """A folder with a module, to be the current one, whose flow is in the database."""
    declare(tmp_path)
    assert finished("shop.py", database, cwd=tmp_path).returncode == 0
    return tmp_path


def sync(folder: Path, database: str, *more: str) -> tuple[int, list[str], str]:
    """The exit code, the lines on standard output, and standard error without what the module prints."""
    done = finished("-P", *PROGRAM, "flow", "sync", "shop:order", *more, cwd=folder, env={"PGFLOW_DSN": database})
    return done.returncode, done.stdout.splitlines(), done.stderr.removeprefix("hello from the import\n")


def test_each_change_is_told_with_what_runs_under_way_keep(folder: Path, database: str) -> None:
    declare(folder, ", timeout=120", ", max_attempts=5, start_delay=2")
    changes = [
        "  timeout: 60 -> 120",
        "  step charge: max_attempts: the flow's -> 5",
        "  step charge: start_delay: none -> 2",
    ]
    code, would, error = sync(folder, database, "--dry-run")
    assert (code, would[:4], error) == (0, ["flow 'order', to be changed:", *changes], "")
    code, told, error = sync(folder, database)
    assert (code, told[:4], error) == (0, ["flow 'order', changed:", *changes], "")
    assert told[4:] == would[4:]
    assert [line.partition(" ")[0] for line in told[4:]] == ["timeout:", "max_attempts", "start_delay"]
    nothing = ["flow 'order' has the options of the code already: nothing to change"]
    assert sync(folder, database) == (0, nothing, "")
    declare(folder, ", timeout=120", ", start_delay=2")
    assert sync(folder, database)[1][1] == "  step charge: max_attempts: 5 -> the flow's"


def test_another_shape_is_refused_with_what_differs_and_the_way_forward(folder: Path, database: str) -> None:
    declare(folder, ", timeout=120", charge="settle")
    code, told, error = sync(folder, database)
    assert (code, told) == (1, [])
    assert error.startswith("Error: only options can be synced, and flow 'order' in the database has another shape")
    assert "step 'settle' is in the code only; step 'charge' is in the database only" in error
    assert "Give the changed flow a new slug" in error
    assert "`pgflow-starter flow delete order`" in error
    assert len(error.splitlines()) == 1


def test_one_that_is_not_in_the_database_is_told_how_it_gets_there(tmp_path: Path, database: str) -> None:
    declare(tmp_path)
    code, told, error = sync(tmp_path, database)
    assert (code, told) == (1, [])
    assert error.startswith("Error: flow 'order' is not in database ")
    assert error.endswith(": a starter that has it brings it there, with its options\n")


def test_a_module_that_cannot_be_loaded_is_one_line() -> None:
    result = call("flow", "sync", "nowhere:order")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: importing 'nowhere:order' raised ModuleNotFoundError")


def test_a_database_without_pgflow_names_the_command_that_installs_it(tmp_path: Path, empty_database: str) -> None:
    declare(tmp_path)
    code, told, error = sync(tmp_path, empty_database)
    assert (code, told) == (1, [])
    assert "pgflow-starter db install" in error
    assert len(error.splitlines()) == 1
