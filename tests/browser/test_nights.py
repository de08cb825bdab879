"""What the page is shown in tests is what the server tells."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from tests.browser.nights import bad, calm, large

ANSWERS = {
    f"{name} {path}": (path, said)
    for name, night in (("bad", bad()), ("calm", calm()), ("large", large([f"order_{n}" for n in range(20)])))
    for path, said in night.items()
}


@pytest.mark.parametrize("name", ANSWERS)
def test_each_answer_is_as_its_schema_says(name: str) -> None:
    path, said = ANSWERS[name]
    schema = "run" if path.startswith("runs/") else path
    text = (files("pgflow_starter.web") / "schemas" / f"{schema}.schema.json").read_text()
    checker: Any = Draft202012Validator(json.loads(text), format_checker=Draft202012Validator.FORMAT_CHECKER)
    checker.validate(said)
