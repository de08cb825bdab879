"""README.md's tables say what the code and the measurements say."""

from __future__ import annotations

import re
from dataclasses import fields

from benchmarks import headline
from benchmarks.tables import TABLES
from pgflow_starter.config import Settings
from tests.support.programs import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
MEASURED = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")


def test_the_measured_table_is_the_one_that_the_documentation_has() -> None:
    assert "\n".join(headline.lines()) in README


def test_each_of_its_figures_stands_among_the_last_ones_and_has_a_table_that_measures_it() -> None:
    for row in headline.rows():
        assert row.table in TABLES, row
        assert row.measured in MEASURED, row
        for figure in re.findall(r"\d[\d.,]*(?: / [\d.]+)?", row.beside):
            assert figure in MEASURED, (row, figure)


def test_the_settings_are_those_that_there_are_with_their_defaults() -> None:
    table = README.partition("## Settings")[2].partition("\n## ")[0]
    told = dict[str, str]()
    for names, values in re.findall(r"(?m)^\| ((?:`\w+`(?:, )?)+) \| ([^|]+) \|", table):
        defaults = re.split(r", (?![^()]*\))", values.strip())
        slugs = re.findall(r"`(\w+)`", names)
        told |= dict(zip(slugs, defaults * (len(slugs) if len(defaults) == 1 else 1), strict=True))
    known = {field.name: getattr(Settings(), field.name) for field in fields(Settings)}
    assert set(told) == set(known)
    plain = {name: value for name, value in known.items() if type(value) in (int, float)}
    assert {name: float(told[name]) for name in plain} == plain
