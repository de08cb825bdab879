"""Which handlers are asynchronous."""

from __future__ import annotations

from functools import partial, wraps
from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest

from pgflow_starter.core.handlers import is_async


async def coroutine(given: Any, ctx: Any) -> None: ...


def plain(given: Any, ctx: Any) -> None: ...


class Called:
    """An object that is called, and has a method that is."""

    async def __call__(self, given: Any, ctx: Any) -> None: ...

    async def method(self, given: Any, ctx: Any) -> None: ...


@wraps(coroutine)
def wrapper(*args: Any) -> Any:
    return coroutine(*args)


ASYNC = [coroutine, Called(), Called().method, partial(coroutine), partial(partial(Called()), 1), AsyncMock()]
PLAIN = [plain, print, Called, partial(plain, 1), Mock(), Mock(spec=plain), wrapper, lambda given, ctx: coroutine]


@pytest.mark.parametrize("handler", ASYNC, ids=range(len(ASYNC)))
def test_what_is_called_on_the_event_loop(handler: Any) -> None:
    assert is_async(handler)


@pytest.mark.parametrize("handler", PLAIN, ids=range(len(PLAIN)))
def test_what_is_called_on_a_thread(handler: Any) -> None:
    assert not is_async(handler)
