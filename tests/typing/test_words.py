"""What the types say is what there is: the settings, the words that may be written for them, the statuses."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import fields
from enum import StrEnum
from typing import Any, Literal, get_args, get_origin, get_type_hints

import psycopg
import pytest

import pgflow_starter as pgflow
from pgflow_starter.config import Settings
from pgflow_starter.core.runs import RunStatus, StepStatus, TaskStatus
from pgflow_starter.supervision import Restart

NAMES = {"Retention": pgflow.Retention, "Schedule": pgflow.Schedule}
"""What their modules import when there is need of it."""


def written(kind: Any) -> Any:
    """What a type checker lets a caller write where such a value is kept."""
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return kind | Literal[tuple(map(str, kind))]
    return Iterable[get_args(kind)[0]] if get_origin(kind) is tuple else kind  # type: ignore[misc]


def test_a_type_checker_is_told_of_the_settings_that_there_are() -> None:
    kept, taken = get_type_hints(Settings, localns=NAMES), get_type_hints(pgflow.StartSettings, localns=NAMES)
    assert taken == {field.name: written(kept[field.name]) for field in fields(Settings)}
    assert not pgflow.StartSettings.__required_keys__


@pytest.mark.parametrize(
    ("where", "name", "kind"),
    [(pgflow.Schedule, "catch_up", pgflow.CatchUp), (pgflow.child_spec, "restart", Restart)],
    ids=["catch_up", "restart"],
)
def test_a_word_may_be_written_for_each_member(where: Any, name: str, kind: type[StrEnum]) -> None:
    assert get_type_hints(where)[name] == written(kind)


def test_the_statuses_are_the_cores(database: str) -> None:
    with psycopg.connect(database) as conn:
        rows = conn.execute(
            "select conrelid::regclass::text, pg_get_constraintdef(oid) from pg_constraint"
            " where contype = 'c' and connamespace = 'pgflow'::regnamespace"
            " and conname in ('status_is_valid', 'valid_status')"
        ).fetchall()
    stored = {table.removeprefix("pgflow."): set(re.findall(r"'(\w+)'", text)) for table, text in rows}
    assert stored["runs"] == set(get_args(RunStatus))
    assert stored["step_states"] <= set(get_args(StepStatus))
    assert stored["step_tasks"] <= set(get_args(TaskStatus))
