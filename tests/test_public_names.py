"""The package's own namespace: every name is there, and none costs anything before it is asked for."""

from __future__ import annotations

import pytest

import pgflow_starter as pgflow
from tests.support.programs import finished


def test_every_public_name_is_there_and_told_by_dir() -> None:
    for name in pgflow.__all__:
        assert getattr(pgflow, name).__module__.startswith("pgflow_starter.")
    assert set(pgflow.__all__) <= set(dir(pgflow))


def test_what_is_not_there_is_an_attribute_error_as_elsewhere() -> None:
    with pytest.raises(AttributeError, match="module 'pgflow_starter' has no attribute 'begin'"):
        _ = pgflow.begin  # type: ignore[attr-defined]


OPTIONAL = ("msgspec", "pydantic", "pydantic_core", "cronsim", "click", "waitress")
DECLARED = """
import sys
import dataclasses
import pgflow_starter as pgflow
from pgflow_starter import *
from pgflow_starter.testing import run_flow

@pgflow.job("plain")
def plain(message: dict, ctx): return message

print(run_flow(plain, {"a": 1}).result, [m for m in OPTIONAL if m in sys.modules])

@dataclasses.dataclass
class Message:
    a: int

@pgflow.job("typed")
def typed(message: Message, ctx): return message

print(run_flow(typed, Message(1)).result, [m for m in OPTIONAL if m in sys.modules])
"""


def test_the_libraries_of_typed_payloads_are_loaded_for_who_declares_some() -> None:
    told = finished("-c", f"OPTIONAL = {OPTIONAL}\n{DECLARED}")
    assert told.stdout == "{'a': 1} []\n{'a': 1} ['msgspec']\n", told.stderr


def test_an_import_alone_loads_neither_driver_nor_actors() -> None:
    told = finished(
        "-c",
        "import sys, pgflow_starter; print({'psycopg', 'pykka', 'opentelemetry'} & {*sys.modules});"
        "from pgflow_starter import *; print(callable(start), 'psycopg' in sys.modules, 'cronsim' in sys.modules,"
        " 'django' in sys.modules)",
    )
    assert told.stdout == "set()\nTrue True False False\n"
