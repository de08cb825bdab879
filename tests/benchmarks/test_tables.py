"""The benchmarks' own code: tables and raw figures. Nothing here looks at how long anything took."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import __main__ as entry
from benchmarks.figures import Figure, header
from benchmarks.plots import draw, series
from benchmarks.tables import TABLES
from tests.support.programs import ROOT


@pytest.fixture(autouse=True)
def logging_goes_on() -> Iterator[None]:
    """The benchmarks switch it off."""
    yield
    logging.disable(logging.NOTSET)


def test_a_figure_is_judged_by_its_median_and_its_target() -> None:
    assert Figure("a", [1.0, 9.0, 2.0], 2.0, "ms").held
    assert not Figure("a", [1.0, 9.0, 3.0], 2.0, "ms").held
    assert Figure("a", [3.0], 2.0, "/s", at_least=True).held
    assert Figure("a", [1e9], None, "ms").held


def test_a_line_shows_median_spread_target_and_what_was_missed() -> None:
    line = Figure("ready", [1.0, 9.0, 3.0], 2.0, "ms").line()
    assert [*line.split()] == ["ready", "3", "ms", "1", "to", "9", "≤", "2", "ms", "MISSED"]
    assert header("starting").split() == ["starting", "median", "spread", "target"]


def test_a_table_is_kept_as_raw_figures_and_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    figures = [Figure("a", [1.0, 2.0], 3.0, "ms", series="ours", x=10), Figure("b", [1.0], None, "")]
    monkeypatch.setitem(TABLES, "importing", lambda _: iter(figures))
    kept = tmp_path / "figures.json"
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--only", "importing", "--json", str(kept)])
    assert entry.main() == 0
    rows = json.loads(kept.read_text(encoding="utf-8"))["importing"]
    assert [row["name"] for row in rows[:2]] == ["a", "b"]
    assert rows[0]["median"] == 1.5
    assert rows[0]["held"]
    assert "(its peak memory)" in capsys.readouterr().out


def test_raw_figures_alone_are_printed_on_request(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(TABLES, "importing", lambda _: iter([Figure("a", [1.0], None, "")]))
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--only", "importing", "--json", "-"])
    assert entry.main() == 0
    assert json.loads(capsys.readouterr().out)["importing"][0]["values"] == [1.0]


def test_a_plot_gets_the_points_of_each_line_in_order() -> None:
    rows = [Figure("a", [y], None, "ms", series=s, x=x).to_dict() for s, x, y in (("o", 10, 2.0), ("o", 1, 1.0))]
    assert series([*rows, Figure("b", [1.0], None, "").to_dict()]) == {"o": [(1, 1.0), (10, 2.0)]}


def test_plots_are_written_where_there_are_figures(tmp_path: Path) -> None:
    rows = [Figure("a", [1.0], None, "ms", series="ours", x=10).to_dict()]
    assert draw({"starting": rows}, tmp_path / "plots") == [tmp_path / "plots" / "starting.png"]


def test_the_entry_point_names_its_tables() -> None:
    told = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert all(name in told for name in TABLES)
