"""Conditions, and PostgreSQL's `@>` on jsonb, by which they go, without PostgreSQL."""

from __future__ import annotations

import json
from typing import Any

from pgflow_starter.core.definition import StepDefinition
from pgflow_starter.testing.jsonb import stored, type_of


def is_met(step: StepDefinition, given: str) -> bool:
    """Whether the step is for what it is given, as JSON text."""
    if step.if_ is not None and not contains(stored(given), json.loads(step.if_)):
        return False
    return step.if_not is None or not contains(stored(given), json.loads(step.if_not))


def contains(given: Any, pattern: Any) -> bool:
    """Whether the one JSON value contains the other: an array, and it alone, contains what is one of its elements."""
    if isinstance(given, list) and not isinstance(pattern, list | dict):
        pattern = [pattern]
    return _contains(given, pattern)


def _contains(given: Any, pattern: Any) -> bool:
    """The same below the top. Arrays are as sets; numbers are equal by their value, and no boolean is one."""
    if type_of(given) != type_of(pattern):
        return False
    if isinstance(pattern, dict):
        return all(key in given and _contains(given[key], value) for key, value in pattern.items())
    if isinstance(pattern, list):
        return all(any(_contains(element, wanted) for element in given) for wanted in pattern)
    return bool(given == pattern)
