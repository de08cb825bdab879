"""Dataclasses and TypedDicts, by msgspec; pydantic's models within them by pydantic. Loaded with the first of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pgflow_starter.core.payloads.annotation import is_pydantic
from pgflow_starter.core.payloads.by_pydantic import model_converter
from pgflow_starter.core.payloads.misfits import Convert, MisfitError, type_name

if TYPE_CHECKING:
    from msgspec import ValidationError

_PLACE = re.compile(r" - at (?P<key>`key` in )?`\$(?P<path>[^`]*)`")
_MISSING = re.compile(r"Object missing required field `(.+)`")
_STEP = re.compile(r"\.(?P<name>[^.\[\]]+)|\[(?P<index>\d+)\]")


def typed_converter(kind: Any) -> Convert:
    """What makes one of JSON data. Raises ImportError, and whatever is said of types that it cannot be done for.

    Numbers, texts and truth values are what they are: no "5" is an int, nor is True; an int is a float, too. Keys that
    the type does not have are left out.
    """
    from msgspec import ValidationError, convert

    models = {model: model_converter(model) for model in _models(kind)}

    def of_pydantic(model: Any, value: Any) -> Any:
        return models[model](value)

    def made(value: Any) -> Any:
        try:
            return convert(value, kind, dec_hook=of_pydantic)
        except ValidationError as error:
            misfits = _misfits(error, value)
        raise misfits  # not within the handler: its context would show the value

    return made


def _models(kind: Any) -> Iterator[Any]:
    """Pydantic's models in it. Raises TypeError for what is neither that nor one of msgspec's types."""
    from msgspec.inspect import CustomType, DataclassType

    for part in _parts(kind):
        if isinstance(part, CustomType):
            if not is_pydantic(part.cls):
                raise TypeError(f"{getattr(part.cls, '__name__', part.cls)} within it is no type that JSON is read as")
            yield part.cls
        elif isinstance(part, DataclassType) and is_pydantic(part.cls):
            raise TypeError(f"{part.cls.__name__} within it is a dataclass of pydantic's: only its models may be there")


def _parts(kind: Any) -> Iterator[Any]:
    """Msgspec's notion of the type and of each within it, each once, for they may go in circles."""
    from msgspec.inspect import Field, Type, type_info

    seen = set[int]()
    left: list[Any] = [type_info(kind)]
    while left:
        part = left.pop()
        if id(part) in seen or not isinstance(part, Type | Field):
            continue
        seen.add(id(part))
        yield part
        for name in part.__struct_fields__:
            value = getattr(part, name)
            left.extend(value if isinstance(value, tuple) else (value,))


def _misfits(error: ValidationError, value: Any) -> MisfitError:
    """Of what msgspec says only that is told which cannot quote the value."""
    text, cause = str(error), error.__cause__
    if cause is not None:  # raised by somebody's own code, in whose words anything may stand
        place = _PLACE.fullmatch(text.removeprefix(str(cause)))
        path = place["path"] if place else ""
        if isinstance(cause, MisfitError):
            return MisfitError([(path + inner, told) for inner, told in cause.found])
        return MisfitError([(path, f"refused by its own check, {type(cause).__name__}")])
    text, at, rest = text.rpartition(" - at ")
    place = _PLACE.fullmatch(at + rest)
    if place is None:
        text, path = str(error), ""
    else:
        path = place["path"] + ("[key]" if place["key"] else "")
    if missing := _MISSING.fullmatch(text):
        return MisfitError([(f"{path}.{missing[1]}", "is missing")])
    told = _without_value(text)
    found = "" if ", got " in told else _found(path, value)
    return MisfitError([(path, f"{told}, got {found}" if found else told)])


def _without_value(text: str) -> str:
    if text.startswith(("Invalid enum value", "Invalid value")):
        return "not one of the values that there are"
    if text.startswith(("Expected ", "Invalid ")) or "out of range" in text:
        return (text[:1].lower() + text[1:]).replace("`", "")
    return "not accepted"


def _found(path: str, value: Any) -> str:
    """The type of what is there; empty where the path does not tell, as it leaves out the keys of dicts."""
    end = 0
    for step in _STEP.finditer(path):
        if step.start() != end:
            return ""
        try:
            value = value[step["name"] if step["index"] is None else int(step["index"])]
        except (LookupError, TypeError):
            return ""
        end = step.end()
    return type_name(value) if end == len(path) else ""
