"""The package's own namespace: every name is there, and none costs anything before it is asked for."""

from __future__ import annotations

from importlib.util import find_spec

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


ONLY_WITH = {
    "a client, or a page that asks the database": (
        "postgres.client",
        "core.run_summary",
        "core.keys",
        "starter.client",
    ),
    "a proxy": ("starter.proxy",),
    "a schedule": ("scheduling", "core.schedule", "core.cron", "starter.schedules", "postgres.stores.schedules"),
    "a retention": ("core.retention", "worker.pruner_actor", "postgres.stores.forgetting"),
    "signal_strategy='notify'": ("postgres.listening",),
    "the fast lane": ("postgres.stores.fast_lane.wording", "postgres.stores.fast_lane.known_cores"),
    "a handler that is async": ("worker.coroutines", "threads.loop_watch", "threads.loop_end", "threads.executor"),
    "a handler with a type for its input": ("core.payloads.by_msgspec", "core.payloads.by_pydantic"),
    "telemetry that somebody hears": ("telemetry.attempt", "worker.queue_watch", "postgres.stores.queue_depths"),
    "a starter in a tree of the user's own": ("starter.child",),
    "a type checker": ("ports",),
    "another program": ("cli", "django", "postgres.embedded", "postgres.setup", "testing", "web", "pytest_plugin"),
}
"""What a program that only names `start` does not load, by who does: it took one megabyte in five when all did."""


def test_what_only_some_starters_need_is_not_loaded_by_the_name_of_start() -> None:
    told = finished("-c", "import sys, pgflow_starter; pgflow_starter.start; print(*sys.modules)")
    loaded = [name.removeprefix("pgflow_starter.") for name in told.stdout.split()]
    assert "starter.start" in loaded, told.stderr
    for what, rooms in ONLY_WITH.items():
        for room in rooms:
            assert find_spec(f"pgflow_starter.{room}"), what
            assert [name for name in loaded if name == room or name.startswith(f"{room}.")] == [], what
