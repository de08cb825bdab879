"""The table of figures that README.md and the documentation show first, made from headline.toml."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

DATA = Path(__file__).with_name("headline.toml")


class Row(NamedTuple):
    """A figure as it is told. `beside` is what others took for the same; `table` is the benchmark that measures it."""

    what: str
    measured: str
    beside: str
    table: str


def rows() -> list[Row]:
    """All of them, in order."""
    return [Row(**figure) for figure in tomllib.loads(DATA.read_text(encoding="utf-8"))["figure"]]


def lines() -> Iterator[str]:
    """The table as Markdown."""
    yield from ("| | measured | beside it |", "|---|---|---|")
    yield from (f"| {row.what} | {row.measured} | {row.beside} |" for row in rows())
