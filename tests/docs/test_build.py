"""The documentation is built without a warning."""

from __future__ import annotations

from pathlib import Path

import pytest

from pgflow_starter import __all__ as public
from pgflow_starter.cli.commands import commands
from tests.support.pages import DOCS
from tests.support.programs import finished

LONGEST = 600.0
"""Seconds that building may take: it is what takes longest here that is one program, and there may be one core."""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("docs")
    command = ("-m", "sphinx", "-W", "--keep-going", "-n", "-q", "-b", "html", "-d", str(folder / "trees"))
    done = finished(*command, str(DOCS), str(folder / "html"), within=LONGEST)
    assert (done.returncode, done.stderr) == (0, "")
    return folder / "html"


def test_every_public_name_is_in_the_reference(built: Path) -> None:
    told = "".join(page.read_text(encoding="utf-8") for page in (built / "reference").glob("*.html"))
    rooms = ("pgflow_starter", "pgflow_starter.errors", "pgflow_starter.supervision")
    assert [n for n in public if not any(f'id="{room}.{n}"' in told for room in rooms)] == []


def test_every_command_and_setting_is_in_the_reference(built: Path) -> None:
    page = (built / "reference/command-line.html").read_text(encoding="utf-8")
    assert all(name in page for name in commands.commands)
    assert "PGFLOW_DSN" in page
    assert "stale_threshold" in (built / "reference/settings.html").read_text(encoding="utf-8")


def test_nothing_is_fetched_from_elsewhere(built: Path) -> None:
    for page in built.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert 'src="http' not in text
        assert 'rel="stylesheet" href="http' not in text
