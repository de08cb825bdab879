"""Every block of Python in tutorial and how-to guides runs as it stands on a real database, and says what it should."""

from __future__ import annotations

import contextlib
import io
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.pages import DOCS, PAGES, blocks, matches, on
from tests.support.programs import finished

WITH_CODE = [
    page
    for page in PAGES
    if page.parent.name in ("tutorial", "how-to") and any(b.language == "python" for b in blocks(page))
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder to be the current one; what is imported from it is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    handler = signal.getsignal(signal.SIGTERM)
    yield tmp_path
    signal.signal(signal.SIGTERM, handler)
    for name in set(sys.modules) - before:
        if (getattr(sys.modules[name], "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


def test_there_are_pages_with_code() -> None:
    assert len(WITH_CODE) >= 10


@pytest.mark.parametrize("page", WITH_CODE, ids=lambda page: str(page.relative_to(DOCS)))
def test_the_page_s_code_runs(page: Path, database: str, folder: Path) -> None:
    namespace: dict[str, object] = {"__name__": "__main__"}
    said = ""
    for block in blocks(page):
        if block.language == "text" and block.follows and said:
            assert matches(block.text, said), said
            said = ""
        if block.language != "python":
            continue
        assert not said, f"the page does not show what was said: {said}"
        if block.file is not None:
            (folder / block.file).write_text(on(database, block.text))
            continue
        heard = io.StringIO()
        with contextlib.redirect_stdout(heard):
            exec(compile(on(database, block.text), str(page), "exec"), namespace)
        said = heard.getvalue()
    assert not said


@pytest.mark.parametrize("page", WITH_CODE, ids=lambda page: str(page.relative_to(DOCS)))
def test_the_page_s_tests_pass(page: Path, folder: Path) -> None:
    files = [b for b in blocks(page) if b.language == "python" and b.file]
    for block in files:
        assert block.file is not None
        (folder / block.file).write_text(block.text)
    if not any(b.file and b.file.startswith("test_") for b in files):
        pytest.skip("it shows no tests")
    # The plugin by its name: the package may not be installed, and then pytest does not find it by itself.
    plugins = ("-p", "no:pgflow_starter", "-p", "pgflow_starter.pytest_plugin", "-p", "no:cacheprovider")
    done = finished("-m", "pytest", "-q", *plugins, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{sum(b.text.count('def test_') for b in files)} passed" in done.stdout
