"""Each file and folder that the project's own texts name is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.pages import PAGES
from tests.support.programs import ROOT

TEXTS = [*(ROOT / name for name in ("CONTRIBUTING.md", "README.md", "benchmarks/README.md")), *PAGES]

_NAMED = re.compile(r"`((?:[\w.-]+/)+(?:[\w-]+\.\w+)?|\w+\.(?:py|md|toml))`")
_READERS = {"database.py", "shop.py"}


@pytest.mark.parametrize("text", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_it_names_is_there(text: Path) -> None:
    folders = (ROOT, ROOT / "pgflow_starter", text.parent)
    named = [name for name in _NAMED.findall(text.read_text(encoding="utf-8")) if name not in _READERS]
    assert [n for n in named if not any((folder / n).exists() for folder in folders)] == []
