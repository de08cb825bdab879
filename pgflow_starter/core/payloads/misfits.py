"""`MisfitError`: where data and a type do not fit, told by path and type and never by value."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

Convert = Callable[[Any], Any]
"""Makes an object of a type of JSON data, or raises MisfitError."""

MOST = 3
"""Misfits that are told of one input."""

_JSON_NAMES = {dict: "object", list: "array", type(None): "null"}


class MisfitError(ValueError):
    """`found` are paths within the data, empty for all of it, and what is wrong there."""

    def __init__(self, found: Sequence[tuple[str, str]]) -> None:
        super().__init__("the data does not fit")
        self.found = found

    def told(self, where: str) -> str:
        """Of data that is called so: the first of them, in one line."""
        told = [f"{where}{path}: {text}" for path, text in self.found[:MOST]]
        more = len(self.found) - len(told)
        return "; ".join([*told, f"and {more} more"] if more else told)


def type_name(value: Any) -> str:
    """What of JSON's types it is, in the words of msgspec's errors."""
    return _JSON_NAMES.get(type(value), type(value).__name__)
