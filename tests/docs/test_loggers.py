"""The loggers that the package uses and those that the page about logs names are the same."""

from __future__ import annotations

import re

from tests.support.pages import DOCS
from tests.support.programs import ROOT


def test_each_logger_stands_in_the_page_about_logs_and_no_other() -> None:
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "pgflow_starter").rglob("*.py")]
    used = {name for source in sources for name in re.findall(r'(?m)^logger = logging\.getLogger\("(.+)"\)', source)}
    page = (DOCS / "how-to" / "logs.md").read_text(encoding="utf-8")
    rows = [row for row in page.splitlines() if row.startswith("| `")]
    assert {name for row in rows for name in re.findall(r"`(pgflow_starter[.\w]*)`", row.split("|")[1])} == used
