"""The repeated runs of the suite: turns, what is read of pytest's words, and the table."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.repeat import Run, by_turns, conditions, failed_in, on_one_core, table
from tests.support.programs import ROOT, environment

SAID = """
tests/test_a.py F.E
FAILED in the middle of what a test has printed
=========================== short test summary info ============================
FAILED tests/test_a.py::test_one[a stop on another thread] - assert 1 == 2
ERROR tests/test_a.py::test_two - Failed: threads left behind: pgflow - x
ERROR tests/test_a.py::test_one[a stop on another thread] - and in its end
1 failed, 1 passed, 2 errors in 0.1s
"""


def test_each_condition_has_its_turn() -> None:
    names = [condition.name for condition in by_turns(7, conditions("3"))]
    assert names[0] == names[len(conditions("3"))] == "alone"
    assert set(names) == {condition.name for condition in conditions("3")}


def test_each_random_order_is_another_one_that_all_its_processes_are_told() -> None:
    (shuffled,) = [condition for condition in conditions("3") if condition.name == "random order"]
    assert len({tuple(shuffled.arguments()) for _ in range(20)}) > 1
    assert any(argument.startswith("--random-order-seed=") for argument in shuffled.arguments())


def test_who_failed_is_read_of_the_summary_once_each() -> None:
    assert failed_in(SAID) == ["tests/test_a.py::test_one[a stop on another thread]", "tests/test_a.py::test_two"]


def test_the_table_names_those_that_failed_and_where_to_read_on() -> None:
    runs = [
        Run("alone", 0, 61.4, Path("1.txt")),
        Run("six processes", 1, 7.0, Path("2.txt"), ["a::b", "c::d"]),
        Run("alone", None, 9.0, Path("3.txt")),
    ]
    assert table(runs).splitlines() == [
        "run  condition      result        seconds  failed",
        "  1  alone          passed             61",
        "  2  six processes  failed              7  a::b",
        "                                           c::d",
        "  3  alone          hangs               9",
        "1 of 3 passed",
        "what run 2 wrote: 2.txt",
        "what run 3 wrote: 3.txt",
    ]


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system binds nobody to a core")
def test_on_one_core_is_who_is_started_then_and_nobody_after() -> None:
    before = os.sched_getaffinity(0)
    with on_one_core():
        asked = [sys.executable, "-c", "import os; print(len(os.sched_getaffinity(0)))"]
        assert subprocess.run(asked, capture_output=True, text=True, check=True).stdout == "1\n"
    assert os.sched_getaffinity(0) == before


@pytest.mark.parametrize(("passes", "code"), [(True, 0), (False, 1)])
def test_a_run_that_fails_is_told_and_children_can_be_interrupted_whatever_was_inherited(
    passes: bool, code: int, tmp_path: Path
) -> None:
    lines = ["import signal", "def test_it():", "    handled = signal.getsignal(signal.SIGINT)"]
    wanted = "is" if passes else "is not"
    (tmp_path / "test_it.py").write_text("\n".join([*lines, f"    assert handled {wanted} signal.default_int_handler"]))
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "tests.repeat", "1", "--processes", "0"],
            cwd=ROOT,
            env=environment({"PYTEST_ARGS": f"-p no:cacheprovider '{tmp_path}'", "TMPDIR": str(tmp_path)}),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        signal.signal(signal.SIGINT, before)
    assert (done.returncode, done.stderr) == (code, "")
    assert f"{int(passes)} of 1 passed" in done.stdout
    assert ("test_it.py::test_it" in done.stdout) is not passes
