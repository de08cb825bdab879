"""`sections`: what docs/troubleshooting.md says of what a problem is about, for the page to show in place.

The file is a link into `docs/`, and a file like any other in a wheel.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from importlib.resources import files
from typing import TypedDict

from pgflow_starter.core.symptoms import Symptom

_HEADING = re.compile(r"(?m)^##+ (.+)\n")
_FENCED = re.compile(r"(?ms)^```[^\n]*\n(.*?)\n```$")
_LINK = re.compile(r"\[([^\]]+)\]\([^)]*\)")
_SLANTED = re.compile(r"(?<!\*)\*([^*`]+|`[^`]+`[^*]*)\*(?!\*)")


class Part(TypedDict):
    """Lines of code, or a paragraph, in which ` and ** are Markdown's."""

    code: bool
    text: str


class Section(TypedDict):
    """As `/sections/<name>` tells it."""

    title: str
    parts: list[Part]


def sections() -> Mapping[str, Section]:
    """By their anchors; none where the package was copied without `docs/`. Reads the file."""
    try:
        text = (files("pgflow_starter.web") / "troubleshooting.md").read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    _, *found = _HEADING.split(text)
    return {
        Symptom(title, "", ()).anchor: {"title": title, "parts": list(_parts(said))}
        for title, said in zip(found[::2], found[1::2], strict=True)
    }


def _parts(said: str) -> Iterator[Part]:
    for n, block in enumerate(_FENCED.split(said)):
        if n % 2:
            yield {"code": True, "text": block}
            continue
        for words in filter(None, re.split(r"\n\n+|\n(?=- )", block.strip("\n"))):
            plain = _LINK.sub(r"\1", words)  # they lead into the documentation
            for text in _rows(plain) if plain.startswith("|") else (plain,):
                yield {"code": False, "text": _SLANTED.sub(r"\1", " ".join(text.split()))}


def _rows(table: str) -> Iterator[str]:
    for row in table.split("\n")[2:]:
        first, *others = row.strip("| ").split(" | ")
        yield f"- {first}: {', '.join(others)}"
