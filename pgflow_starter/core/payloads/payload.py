"""`Payload`: what a handler's input is decoded to, made once where the handler is declared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, is_dataclass
from typing import Any, get_origin

from pgflow_starter.core.payloads.annotation import input_annotation, is_pydantic
from pgflow_starter.core.payloads.misfits import Convert, MisfitError
from pgflow_starter.errors import MissingExtraError, PayloadError, installing

_EXTRAS = {"msgspec": "typed", "pydantic": "pydantic"}


@dataclass(frozen=True, slots=True)
class Payload:
    """The type `name`, and what makes one of JSON data. Immutable, thread-safe."""

    name: str
    convert: Convert

    def decode(self, value: Any, what: str = "input", who: str = "") -> Any:
        """One of that data, which is called `what`. Raises PayloadError, and what checks of the type's own raise."""
        try:
            return self.convert(value)
        except MisfitError as misfits:
            told = misfits.told(what)
        raise PayloadError(f"{who}{what} does not fit {self.name}: {told}")


def payload_of(handler: Any, who: str) -> Payload | None:
    """That of the handler's annotation; None where the handler takes plain JSON.

    Raises ValueError for an annotation, or a type, that cannot be made out, MissingExtraError.
    """
    if not callable(handler):
        return None
    try:
        kind = input_annotation(handler)
    except Exception as error:
        raise ValueError(
            f"{who}: the annotation of its input cannot be resolved, {type(error).__name__}: {error}; what it names"
            " must be there at run time, above the handler and not under TYPE_CHECKING (for plain JSON write Any)"
        ) from error
    while type(kind).__name__ == "TypeAliasType":
        kind = kind.__value__
    converter = _converter_for(kind)
    if converter is None:
        return None
    name = getattr(kind, "__name__", str(kind))
    try:
        return Payload(name, converter(kind))
    except ImportError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in _EXTRAS:
            raise
        raise MissingExtraError(
            f"{who}: decoding its input to {name} needs {missing}, which is not installed:"
            f" {installing(_EXTRAS[missing])}"
        ) from None
    except Exception as error:  # whatever its fields are
        told = str(error).partition("\n")[0]
        raise ValueError(f"{who}: its input cannot be decoded to {name}: {told}") from error


def _converter_for(kind: Any) -> Callable[[Any], Convert] | None:
    """None for what is no dataclass, TypedDict or model of pydantic's, or is only made of such."""
    declared = get_origin(kind) or kind
    if is_pydantic(declared):
        from pgflow_starter.core.payloads.by_pydantic import model_converter

        return model_converter
    if not isinstance(declared, type):
        return None
    is_typed_dict = issubclass(declared, dict) and hasattr(declared, "__total__")
    if not is_typed_dict and not is_dataclass(declared):
        return None
    from pgflow_starter.core.payloads.by_msgspec import typed_converter

    return typed_converter
