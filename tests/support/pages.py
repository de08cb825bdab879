"""The pages of the documentation, cut into their fenced blocks."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from tests.support.programs import ROOT

DOCS = ROOT / "docs"
PAGES = sorted(p for p in DOCS.rglob("*.md") if "_build" not in p.parts)

_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_DSN = re.compile(r'"host=(?!127)[^"]*"')


@dataclass(frozen=True)
class Block:
    """A fenced block; `follows` tells that nothing but blank lines is between it and the one before."""

    language: str
    text: str
    follows: bool

    @property
    def file(self) -> str | None:
        """The file that the block is to be, as its first line says."""
        found = re.match(r"# (\w+\.py)\n", self.text)
        return found[1] if found else None

    def commands(self) -> list[str]:
        """What a console block has a person type."""
        return [line.removeprefix("$ ") for line in self.text.splitlines() if line.startswith("$ ")]


def blocks(page: Path) -> list[Block]:
    """The page's blocks, in order."""
    text, found, end = page.read_text(encoding="utf-8"), [], 0
    for match in _FENCE.finditer(text):
        found.append(Block(match[1], match[2], not text[end : match.start()].strip()))
        end = match.end()
    return found


def on(database: str, code: str) -> str:
    """The code with the test's database in place of the page's."""
    return _DSN.sub(lambda _: repr(database), code)


def matches(expected: str, said: str) -> bool:
    """Whether that was said; an ellipsis stands for anything within a line."""
    pattern = ".*".join(re.escape(part) for part in expected.split("…"))
    return re.fullmatch(pattern, said) is not None
