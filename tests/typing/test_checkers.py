"""What mypy and pyright, both strict, say of a user's code: nothing of what is right, of what is wrong that it is.

A line of `wrong.py` ends with what each of them is to say of it. Nothing else may be said, of any line.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
RIGHT, WRONG = HERE / "right.py", HERE / "wrong.py"
USES = 40
PATIENCE = 600.0

_WRONG = re.compile(r"  # wrong: (?P<mypy>[^;]+); (?P<pyright>.+)$")

Said = dict[tuple[str, int], set[str]]
"""Which errors, by file and line."""


def by_mypy() -> Iterable[tuple[str, int, str]]:
    """As a project has it that is strict and depends on us: our own files are looked at, and not told of."""
    options = ("--strict", "--python-version", "3.11", "--follow-imports", "silent", "--output", "json")
    cache = ("--cache-dir", ".mypy_cache/typing")  # not of those files as `make lint` sees them
    for line in _told("mypy", "--config-file", "", *options, *cache, str(RIGHT), str(WRONG)).splitlines():
        told: dict[str, Any] = json.loads(line)
        if told["severity"] == "error":
            yield told["file"], told["line"], told["code"]


def by_pyright() -> Iterable[tuple[str, int, str]]:
    """Each use is judged by itself: what is unknown because it was wrong is nothing that is wrong besides."""
    options = ("--project", str(HERE / "pyrightconfig.json"), "--pythonpath", sys.executable, "--outputjson")
    for told in json.loads(_told("basedpyright", *options))["generalDiagnostics"]:
        if not told["rule"].startswith("reportUnknown") or Path(told["file"]) != WRONG:
            yield told["file"], told["range"]["start"]["line"] + 1, told["rule"]


@pytest.mark.parametrize("checker", [by_mypy, by_pyright], ids=["mypy", "pyright"])
def test_each_right_use_passes_and_each_wrong_one_is_told_of(
    checker: Callable[[], Iterable[tuple[str, int, str]]],
) -> None:
    said: Said = defaultdict(set)
    for file, line, code in checker():
        said[Path(ROOT, file).name, line].add(code)
    assert said == _due(checker.__name__.removeprefix("by_"))


def test_there_are_forty_of_each() -> None:
    right = [line for line in RIGHT.read_text().splitlines() if line.endswith("  # right")]
    assert (len(right), len(_due("mypy")), len(_due("pyright"))) == (USES, USES, USES)


def _due(checker: str) -> Said:
    marked = {number: _WRONG.search(line) for number, line in enumerate(WRONG.read_text().splitlines(), 1)}
    return {(WRONG.name, n): set(found[checker].split(", ")) for n, found in marked.items() if found is not None}


def _told(module: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr  # there are errors, and the checker itself has had none
    return done.stdout
