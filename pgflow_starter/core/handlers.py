"""What a step's handler may be, and whether it is asynchronous."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any


def is_async(handler: Any) -> bool:
    """Whether a call makes a coroutine: of an `async def`, of an object whose `__call__` is one, of a partial of these.

    Not of a plain function that returns one: only its call shows that.
    """
    return _is(inspect.iscoroutinefunction, handler)


def handler_problem(handler: Any) -> str | None:
    """What keeps it from being a handler, in words; None where nothing does, or none knows."""
    if not callable(handler):
        return f"must be a function of (input, ctx), got {handler!r}"
    if _is(inspect.isasyncgenfunction, handler):
        return "is an async generator function, and what it yields is no output: return it, as a list perhaps"
    if parameters := _unfit_parameters(handler):
        return f"takes {parameters}, but is called with (input, ctx): give it these two parameters"
    return None


def _is(kind: Callable[[Any], bool], handler: Any) -> bool:
    while isinstance(handler, partial):
        handler = handler.func
    try:
        return kind(handler) or kind(type(handler).__call__)
    except Exception:  # a mock of a function has every attribute, and none of them is what it seems
        return False


def _unfit_parameters(handler: Any) -> str:
    """Those of a handler that cannot be called with an input and a context; nothing where it can, or none knows."""
    try:
        # A decorator may give a function more than it gets; functools.wraps copies what is said in the place of its own
        # parameters, too.
        if hasattr(handler, "__signature__"):
            return ""
        signature = inspect.signature(handler, follow_wrapped=False)
    except Exception:  # builtins; and whatever an object does when it is asked
        return ""
    try:
        signature.bind(None, None)
    except TypeError:
        bare = [p.replace(annotation=p.empty, default=p.empty) for p in signature.parameters.values()]
        return str(inspect.Signature(bare))
    return ""
