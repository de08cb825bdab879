"""Pydantic's models and dataclasses, by pydantic, which is loaded when there is one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pgflow_starter.core.payloads.misfits import Convert, MisfitError, type_name

if TYPE_CHECKING:
    from pydantic import ValidationError


def model_converter(kind: Any) -> Convert:
    """What makes one of JSON data. Raises ImportError, and whatever is said of types that it cannot be done for.

    As strict or lax as the model says, for pydantic is given JSON: what a strict one takes of that fits.
    """
    from pydantic import TypeAdapter, ValidationError
    from pydantic_core import PydanticSerializationError, to_json

    adapter = TypeAdapter(kind)
    if not adapter.pydantic_complete:
        adapter.rebuild(raise_errors=True)
    validate = adapter.validate_json

    def made(value: Any) -> Any:
        try:
            return validate(to_json(value))
        except ValidationError as error:
            misfits = MisfitError(list(_misfits(error)))
        except PydanticSerializationError:
            misfits = MisfitError([("", "nested deeper than pydantic reads")])
        raise misfits  # not within the handler: its context would show the value

    return made


def _misfits(error: ValidationError) -> Iterator[tuple[str, str]]:
    """What pydantic says of types quotes no value; of all else only the code of the error is told.

    A check's PydanticCustomError may have any code and quote anything; pydantic gives only its own an address.
    """
    for found in error.errors(include_url=True, include_context=False):
        code = found["type"]
        path = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in found["loc"])
        if code == "missing":
            yield path, "is missing"
        elif "url" in found and code.endswith(("_type", "_parsing")):
            wanted = found["msg"].partition(",")[0].removeprefix("Input ")
            yield path, f"{wanted}, got {type_name(found['input'])}"
        else:
            yield path, f"refused by its own check, {code}, got {type_name(found['input'])}"
