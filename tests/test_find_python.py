"""Where `make test-all` finds its Pythons."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support.programs import ROOT

VERSION = "3.99"

PLACES = {
    "pyenv": f".pyenv/versions/{VERSION}.1/bin",
    "uv": f".local/share/uv/python/cpython-{VERSION}.1-linux-x86_64-gnu/bin",
    "asdf": f".asdf/installs/python/{VERSION}.1/bin",
    "mise": f".local/share/mise/installs/python/{VERSION}.1/bin",
}


def found(home: Path) -> str | None:
    """What the script finds for somebody with this home folder and nothing else of that version."""
    done = subprocess.run(
        ["sh", ROOT / "tests/find-python.sh", VERSION],
        env={"HOME": str(home), "PATH": f"{home / 'on path'}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0 if done.stdout else 1, "")
    return done.stdout.removesuffix("\n") or None


def lay(folder: Path, *, runs: bool) -> Path:
    """A Python of that version, or what looks like one and fails."""
    folder.mkdir(parents=True)
    program = folder / f"python{VERSION}"
    program.write_text(f"#!/bin/sh\nexit {int(not runs)}\n")
    program.chmod(0o755)
    return program


@pytest.mark.parametrize("manager", PLACES)
def test_a_version_managers_python_is_found_also_where_a_shim_on_path_fails(manager: str, tmp_path: Path) -> None:
    home = tmp_path / "a home"
    lay(home / "on path", runs=False)
    assert found(home) is None
    program = lay(home / PLACES[manager], runs=True)
    assert found(home) == str(program)


def test_one_on_path_comes_first(tmp_path: Path) -> None:
    lay(tmp_path / "on path", runs=True)
    lay(tmp_path / PLACES["uv"], runs=True)
    assert found(tmp_path) == f"python{VERSION}"
