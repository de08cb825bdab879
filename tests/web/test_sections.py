"""The sections of the documentation that the page shows in place: all that a problem may name, as plain text."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from pgflow_starter.core.symptoms import QUEUE_STILL, RUNS_FAIL, SCHEDULE_LATE, SYMPTOMS, Symptom
from pgflow_starter.testing import ManualClock
from pgflow_starter.web import Application
from pgflow_starter.web.sections import sections
from tests.support.programs import ROOT, finished
from tests.web.stage import Stage
from tests.web.test_http import asked

SECTIONS = sections()


@pytest.mark.parametrize("symptom", [*SYMPTOMS, RUNS_FAIL, QUEUE_STILL, SCHEDULE_LATE], ids=lambda each: each.anchor)
def test_each_symptom_has_its_section(symptom: Symptom) -> None:
    section = SECTIONS[symptom.anchor]
    assert section["title"] == symptom.title
    words = " ".join(part["text"] for part in section["parts"] if not part["code"])
    assert symptom not in SYMPTOMS or ("**Confirm.**" in words and "**Do.**" in words)
    assert "```" not in words
    assert "](" not in words


def test_code_keeps_its_lines_and_text_has_none() -> None:
    code = [part["text"] for part in SECTIONS["hidden"]["parts"] if part["code"]]
    assert len(code) == 1
    assert code[0].startswith("select ")
    assert "\nfrom pg_class" in code[0]
    assert not [
        part for each in SECTIONS.values() for part in each["parts"] if not part["code"] and "\n" in part["text"]
    ]


def test_a_row_of_a_table_is_a_line() -> None:
    (about,) = [part["text"] for part in SECTIONS["claims-refused"]["parts"] if "42501" in part["text"]]
    assert about == "- 42501: a right was taken away, Missing rights"


def test_it_is_served_by_its_name() -> None:
    app = Application(Stage(), ManualClock())
    status, headers, body = asked(app, "/sections/locked")
    assert (status, headers["content-type"]) == ("200 OK", "application/json")
    assert json.loads(body) == SECTIONS["locked"]
    for path in ("/sections/", "/sections/nothing", "/sections/../status"):
        assert asked(app, path)[0] == "404 Not Found"


def test_of_a_package_that_was_copied_without_the_documentation_the_page_works_all_the_same(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "pgflow_starter", tmp_path / "pgflow_starter", symlinks=True)
    program = "from pgflow_starter import web; web.application(None); print(web.__file__)"
    told = finished("-c", program, env={"PYTHONPATH": str(tmp_path)}, cwd=tmp_path)
    assert told.stdout.startswith(str(tmp_path)), told.stderr
