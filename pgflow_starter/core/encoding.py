"""Handler outputs and flow inputs as JSON that PostgreSQL's jsonb takes.

Beyond JSON's own types: dataclasses as objects, datetimes, dates and times in ISO 8601, UUIDs and Decimals as text,
enums as their value, tuples as arrays, pydantic's models as they say themselves, by their aliases. Refused, naming the
path: NaN and infinities, bytes, sets, circular structures, keys that are no strings, NUL characters and lone surrogates
(jsonb has neither), whatever else.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import json
import math
import re
import uuid
from collections.abc import Iterable
from typing import Any

_ERROR_TEXT_LIMIT = 10_000
_INT_BITS = 14_000
_OWN_SERIALIZER = re.compile(r"Error calling function `[^`]*`: \w+")
"""Of a model; whatever follows are its words, in which the value may stand."""
_encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def to_json(value: Any, what: str = "output") -> str:
    """The value as JSON text. Raises ValueError naming `what` and the path of the part that is not JSON."""
    return json_text(plain(value, what))


def plain(value: Any, what: str, *, round_trip: bool = False) -> Any:
    """The value of JSON's own types alone, as `to_json` writes it.

    A model of pydantic's for a `round_trip` is what it is made of again: without the fields that it computes.
    """
    return _plain(value, what, (), round_trip)


def json_text(data: Any) -> str:
    """What is `plain`, as text."""
    return _encoder.encode(data)


def _plain(value: Any, path: str, above: tuple[int, ...], again: bool) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, enum.Enum):
        return _plain(value.value, path, above, again)
    if isinstance(value, str):
        if "\x00" in value or not _encodable(value):
            raise ValueError(f"{path} holds a NUL character or a lone surrogate, which PostgreSQL's jsonb cannot store")
        return str(value)
    if isinstance(value, int):
        if value.bit_length() > _INT_BITS:
            raise ValueError(f"{path} is an int of more than 4,200 digits, which Python does not write out")
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{path} is {value!r}, which JSON cannot express")
        return float(value)
    if isinstance(value, dt.datetime | dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, uuid.UUID | decimal.Decimal):
        return str(value)
    return _container(value, path, above, again)


def _container(value: Any, path: str, above: tuple[int, ...], again: bool) -> Any:
    if id(value) in above:
        raise ValueError(f"{path} contains itself")
    inside = (*above, id(value))
    if len(inside) > 200:
        raise ValueError(f"{path} is nested more than 200 deep")
    kind = type(value)
    if dataclasses.is_dataclass(kind) and not hasattr(kind, "__pydantic_serializer__"):
        fields = (f.name for f in dataclasses.fields(value))
        return {name: _plain(getattr(value, name), f"{path}.{name}", inside, again) for name in fields}
    if isinstance(value, dict):
        return {_key(k, path): _plain(v, f"{path}[{k!r}]", inside, again) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v, f"{path}[{i}]", inside, again) for i, v in enumerate(value)]
    if hasattr(kind, "__pydantic_serializer__"):
        return _plain(_dumped(value, path, again), path, inside, again)
    raise ValueError(f"{path} is a {kind.__name__}, which is not JSON")


def _dumped(value: Any, path: str, again: bool) -> Any:
    """A model or dataclass of pydantic's. Pydantic is there, or there were none: it need not be loaded here."""
    try:
        # It would warn of a field of another type than its own, and quote it.
        return type(value).__pydantic_serializer__.to_python(
            value, mode="json", by_alias=True, round_trip=again, warnings=False
        )
    except ValueError as error:
        own = _OWN_SERIALIZER.match(str(error))
        told = own[0] if own else str(error)
    raise ValueError(f"{path} cannot be written as JSON: {told}")  # not within the handler: that shows what it quotes


def _key(key: Any, path: str) -> str:
    if not isinstance(key, str):
        raise ValueError(f"{path} has the key {key!r}, and JSON objects have string keys")
    return str(_plain(key, f"a key of {path}", (), False))


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def error_text(text: str, more: Iterable[str] = ()) -> str:
    """The text as PostgreSQL can store it: no NUL, no lone surrogates, at most 10 kB, the end kept.

    What is `more` follows, each on a new line, as far as there is room.
    """
    mark = "…"
    room = _ERROR_TEXT_LIMIT - len(mark.encode())
    clean = _storable(text)
    if len(clean) > _ERROR_TEXT_LIMIT:
        return mark + clean[-room:].decode("utf-8", "ignore")
    for part in more:
        clean += b"\n" + _storable(part)
        if len(clean) > _ERROR_TEXT_LIMIT:
            return clean[:room].decode("utf-8", "ignore") + mark
    return clean.decode()


def _storable(text: str) -> bytes:
    return text.replace("\x00", "\\x00").encode("utf-8", "backslashreplace")
