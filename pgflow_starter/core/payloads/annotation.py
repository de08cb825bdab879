"""The annotation of a handler's input, whatever the handler is: a function, decorated or not, a method, a partial."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from functools import partial
from types import FunctionType, MethodType, SimpleNamespace
from typing import Any, get_type_hints

_DEEPEST = 100
"""Decorators, partials and objects around one function that are looked through."""


def input_annotation(handler: Callable[..., Any]) -> Any:
    """What the handler's first parameter is annotated with, strings resolved; None where nothing, or nobody knows.

    Raises what evaluating the annotation does, NameError for a name that is not there at run time.
    """
    try:
        annotation = _as_written(handler)
    except Exception:  # builtins; mocks; and whatever an object does when it is asked
        return None
    if annotation is inspect.Parameter.empty or isinstance(annotation, type):
        return None if annotation is inspect.Parameter.empty else annotation
    function = _function(handler)
    holder = SimpleNamespace(__annotations__={"input": annotation})
    try:
        return get_type_hints(holder, _global_names(function), _names_around(function))["input"]
    except NameError:
        if function is None or "__name__" not in function.__globals__:
            return None  # a copy of a function, as of unittest.mock: its annotation was written in another place
        raise


def is_pydantic(kind: Any) -> bool:
    """Whether it is a model or a dataclass of pydantic's. Loads nothing."""
    return isinstance(kind, type) and hasattr(kind, "__pydantic_validator__")


def _as_written(handler: Callable[..., Any]) -> Any:
    """Its own parameter's, else that of the function which it wraps: a decorator may take whatever comes."""
    try:
        own = _first(inspect.signature(handler, follow_wrapped=False, **_UNEVALUATED))
    except ValueError:  # a decorator written in C, functools.cache for one: it has no parameters that Python knows
        own = inspect.Parameter.empty
    return own if own is not inspect.Parameter.empty else _first(inspect.signature(handler, **_UNEVALUATED))


def _first(signature: inspect.Signature) -> Any:
    """Raises TypeError where it is not one of (input, ctx): then nobody can tell which of them is the input."""
    signature.bind(None, None)
    parameter = next(iter(signature.parameters.values()))
    return inspect.Parameter.empty if parameter.kind is inspect.Parameter.VAR_POSITIONAL else parameter.annotation


def _function(handler: Any) -> FunctionType | None:
    """The one at the bottom of it: there its annotations were written."""
    for _ in range(_DEEPEST):
        if hasattr(handler, "__wrapped__"):
            handler = handler.__wrapped__
        elif isinstance(handler, FunctionType):
            return handler
        elif isinstance(handler, partial):
            handler = handler.func
        else:
            handler = handler.__func__ if isinstance(handler, MethodType) else type(handler).__call__
    return None


def _global_names(function: FunctionType | None) -> dict[str, Any]:
    if function is None:
        return {}
    return {**function.__globals__, **{p.__name__: p for p in getattr(function, "__type_params__", ())}}


def _names_around(function: FunctionType | None) -> dict[str, Any]:
    """Those of the functions and classes that it is defined in, while they run: a class may be theirs."""
    names: dict[str, Any] = {}
    frame = inspect.currentframe() if function is not None and "." in function.__qualname__ else None
    while frame is not None:
        assert function is not None
        if frame.f_globals is function.__globals__ and function.__qualname__.startswith(f"{frame.f_code.co_qualname}."):
            names = {**frame.f_locals, **names}
        frame = frame.f_back
    return names


def _unevaluated() -> dict[str, Any]:
    """From Python 3.14 on asking evaluates all annotations, and another parameter's may name what is not there."""
    if sys.version_info >= (3, 14):
        from annotationlib import Format

        return {"annotation_format": Format.FORWARDREF}
    return {}


_UNEVALUATED = _unevaluated()
