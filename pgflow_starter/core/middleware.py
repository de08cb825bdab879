"""`Middleware`: what is entered around every handler's call, and what is wrong with a list of them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ContextDecorator
from typing import Any

from pgflow_starter.core.context import TaskContext

Middleware = Callable[[TaskContext], AbstractContextManager[Any]]
"""Makes a context manager of a task's `TaskContext`. Called by many threads at once."""


def middleware_problems(given: object) -> Iterator[str]:
    """What is wrong with the setting, each in words. Calls none of them."""
    if isinstance(given, str) or not isinstance(given, Iterable):
        yield f"middleware must be a list of functions (task_context) -> context manager, got {given!r}"
        return
    for factory in given:
        problem = _problem(factory)
        if problem is not None:
            yield f"middleware must hold functions (task_context) -> context manager, got {problem}"


def named(factory: object) -> str:
    """A middleware by its name, for people."""
    module, name = getattr(factory, "__module__", None), getattr(factory, "__qualname__", None)
    if isinstance(module, str) and isinstance(name, str):
        return f"{module}.{name}"
    return f"a {type(factory).__qualname__}"


def _problem(factory: object) -> str | None:
    """What is wrong with one of them; None where nothing is, or none knows."""
    if isinstance(factory, ContextDecorator):
        return f"{named(factory)}, a context manager: pass the function that makes it"
    if not callable(factory):
        return repr(factory)
    try:
        if inspect.isgeneratorfunction(factory):
            return f"the generator function {named(factory)}: decorate it with contextlib.contextmanager"
        if inspect.iscoroutinefunction(factory) or inspect.isasyncgenfunction(inspect.unwrap(factory)):
            return f"{named(factory)}, which is asynchronous: the context managers around async handlers are plain, too"
        signature = inspect.signature(factory, follow_wrapped=False)
    except Exception:  # builtins; and whatever an object does when it is asked
        return None
    try:
        signature.bind(None)
    except TypeError:
        return f"{named(factory)}, which cannot be called with a task context alone"
    return None
