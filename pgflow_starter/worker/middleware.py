"""Entering the middleware around a handler's call, plain or async, in the one way that there is."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import Any

from pgflow_starter.core.context import TaskContext
from pgflow_starter.core.middleware import Middleware, named


def enter(stack: ExitStack, middleware: Sequence[Middleware], ctx: TaskContext) -> None:
    """Make the context managers and enter them, outermost first; the stack, entered before, leaves them.

    So it is as with nested `with` blocks: one that was entered sees what those within it raise, in `__enter__` too.
    Raises what they do, TypeError naming a middleware that made no context manager.
    """
    for factory in middleware:
        manager: Any = factory(ctx)
        if not isinstance(manager, AbstractContextManager):
            raise TypeError(f"middleware {named(factory)} made a {type(manager).__name__}, which is no context manager")
        stack.enter_context(manager)
