"""Every block of Python in tutorial, guides and "Coming from" runs on a real database, and says what it should."""

from __future__ import annotations

import os
from itertools import zip_longest
from pathlib import Path

import pytest

from tests.support.pages import DOCS, PAGES, blocks, matches, on
from tests.support.programs import ROOT, finished

SEPARATOR = "-- the next block --\n"
SEPARATING = f"print({SEPARATOR!r}, end='', flush=True)\n"

WITH_CODE = [
    page
    for page in PAGES
    if page.parent.name in ("tutorial", "how-to", "coming-from") and any(b.language == "python" for b in blocks(page))
]
WITH_TESTS = [page for page in WITH_CODE if any((b.file or "").startswith("test_") for b in blocks(page))]


def test_there_are_pages_with_code() -> None:
    assert len(WITH_CODE) >= 10


@pytest.mark.parametrize("page", WITH_CODE, ids=lambda page: str(page.relative_to(DOCS)))
def test_the_page_s_code_runs_and_says_what_it_should(page: Path, database: str, tmp_path: Path) -> None:
    program, expected = "", ""
    for block in blocks(page):
        if block.language == "python" and block.file is not None:
            (tmp_path / block.file).write_text(on(database, block.text))
        elif block.language == "python":
            program += on(database, block.text) + SEPARATING
            expected += SEPARATOR
        elif block.language == "text" and block.follows and program:
            expected = expected.removesuffix(SEPARATOR) + block.text + SEPARATOR
    # In a process of its own: it may set up logging and signals as it likes.
    done = finished("-W", "error", "-c", program, env={"PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"}, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    parts = zip_longest(expected.split(SEPARATOR), done.stdout.split(SEPARATOR), fillvalue="")
    assert all(matches(due, said) for due, said in parts), done.stdout


@pytest.mark.parametrize("page", WITH_TESTS, ids=lambda page: str(page.relative_to(DOCS)))
def test_the_page_s_tests_pass(page: Path, tmp_path: Path) -> None:
    files = [b for b in blocks(page) if b.language == "python" and b.file]
    for block in files:
        assert block.file is not None
        (tmp_path / block.file).write_text(block.text)
    # The plugin by its name: the package may not be installed, and then pytest does not find it by itself.
    plugins = ("-p", "no:pgflow_starter", "-p", "pgflow_starter.pytest_plugin", "-p", "no:cacheprovider")
    done = finished("-m", "pytest", "-q", *plugins, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{sum(b.text.count('def test_') for b in files)} passed" in done.stdout
