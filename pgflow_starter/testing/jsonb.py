"""JSON as it comes back from PostgreSQL's jsonb, without PostgreSQL."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

_TYPES = {dict: "object", list: "array", str: "string", bool: "boolean", int: "number", float: "number"}


def stored(text: str) -> Any:
    """The JSON text as a handler gets it: keys in jsonb's order, numbers written out in full.

    So 1e16 comes back as an int, and -0.0 without its sign.
    """
    return json.loads(text, object_pairs_hook=_ordered, parse_float=_number)


def object_of(members: dict[str, str]) -> str:
    """The text of an object whose values are texts already."""
    return "{" + ",".join(f"{json.dumps(key)}:{value}" for key, value in members.items()) + "}"


def array_of(elements: list[str]) -> str:
    """The text of an array whose elements are texts already."""
    return "[" + ",".join(elements) + "]"


def type_of(value: Any) -> str:
    """What PostgreSQL's `jsonb_typeof` calls it."""
    return _TYPES.get(type(value), "null")


def _ordered(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """By length in bytes, then by the bytes: jsonb does not keep the order in which keys were written."""
    return dict(sorted(pairs, key=lambda pair: (len(key := pair[0].encode()), key)))


def _number(text: str) -> int | float:
    """A number that jsonb, which keeps it as numeric, writes without exponent and with the zero unsigned."""
    plain = format(Decimal(text), "f")
    return float(plain) + 0.0 if "." in plain else int(plain)
