"""Conditions of a step: what its input must contain and must not, and what becomes of it when that is not so.

The words are pgflow's own; each step of a core without conditions is as one that has the words that are first here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, Literal, TypeAlias, get_args

from pgflow_starter.core.encoding import to_json

WhenUnmet: TypeAlias = Literal["skip", "skip-cascade", "fail"]
WhenExhausted: TypeAlias = Literal["fail", "skip", "skip-cascade"]
WHEN_UNMET: tuple[WhenUnmet, ...] = get_args(WhenUnmet)
WHEN_EXHAUSTED: tuple[WhenExhausted, ...] = get_args(WhenExhausted)
PATTERNS = ("if_", "if_not")
CONDITIONS = {"if_": None, "if_not": None, "when_unmet": WHEN_UNMET[0], "when_exhausted": WHEN_EXHAUSTED[0]}
"""The fields of a step's conditions, each with what it is where nothing was declared."""


class Pattern(str):
    """A pattern as JSON text, which nobody changes: two that PostgreSQL's jsonb calls equal are one text."""

    __slots__ = ()


def pattern_of(value: Any, what: str) -> Pattern:
    """The value as a pattern. Raises ValueError naming `what`, and the path of the part that is not JSON."""
    if isinstance(value, Pattern):
        return value
    plain = json.loads(to_json(value, what))
    if not isinstance(plain, dict):
        raise ValueError(f"{what} must be an object (a dict), which is all that pgflow compares with, got {value!r}")
    return stored_pattern(plain)


def stored_pattern(value: Any) -> Pattern:
    """The same of what was read from JSON."""
    return Pattern(_written(value))


def _written(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_written(key)}: {_written(value[key])}" for key in sorted(value)) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_written, value)) + "]"
    if isinstance(value, float) and math.isfinite(value):
        # As jsonb does, in full: of the digits that JSON has of it, which are not those of the float itself.
        written = Decimal(repr(value))
        return str(int(written)) if value.is_integer() else format(written, "f")
    return json.dumps(value, ensure_ascii=False)


def condition_problems(who: str, if_: Any, if_not: Any, when_unmet: Any, when_exhausted: Any) -> Iterator[str]:
    """What is wrong with a step's conditions, a line each."""
    for name, pattern in (("if_", if_), ("if_not", if_not)):
        if pattern is not None:
            try:
                pattern_of(pattern, f"{who}: {name}")
            except ValueError as error:
                yield str(error)
    for name, word, words in (
        ("when_unmet", when_unmet, WHEN_UNMET),
        ("when_exhausted", when_exhausted, WHEN_EXHAUSTED),
    ):
        if word not in words:
            yield f"{who}: {name} must be one of {', '.join(map(repr, words))}, got {word!r}"
    if if_ is None and if_not is None and when_unmet in WHEN_UNMET[1:]:
        yield f"{who}: when_unmet is {when_unmet!r}, but there is neither if_ nor if_not that may be unmet"
