"""Every command that a page, the README or an example has a person type exists, with these options."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.commands import check
from tests.support.pages import DOCS, PAGES, blocks

TYPED = [
    pytest.param(command, id=f"{page.relative_to(DOCS)}: {command[:40]}")
    for page in PAGES
    for block in blocks(page)
    if block.language == "console"
    for command in block.commands()
    if "pgflow-starter " in command
]


@pytest.mark.parametrize("command", TYPED)
def test_the_command_is_one(command: str) -> None:
    check(command[command.index("pgflow-starter ") :])


def test_a_block_for_the_console_has_something_to_type() -> None:
    empty = [page for page in PAGES for b in blocks(page) if b.language == "console" and not b.commands()]
    assert empty == list[Path]()
