"""What may be a step's handler, and what is refused where it is declared."""

from __future__ import annotations

import functools
import inspect
from typing import Any
from unittest.mock import AsyncMock, Mock, create_autospec

import pytest

import pgflow_starter as pgflow
from pgflow_starter.core.handlers import is_async


def handler(_input: Any, _ctx: Any) -> None:
    return None


class Handling:
    """Handlers of every form that can be called as one."""

    def method(self, message: Any, ctx: Any) -> None: ...

    def __call__(self, message: Any, ctx: Any) -> None: ...

    @classmethod
    def of_the_class(cls, message: Any, ctx: Any) -> None: ...

    @staticmethod
    def static(message: Any, ctx: Any = None, *rest: Any, **more: Any) -> None: ...


def injecting(function: Any) -> Any:
    """A decorator as many are: it gives the function something of its own."""

    @functools.wraps(function)
    def wrapper(*given: Any) -> Any:
        return function("something", *given)

    return wrapper


def documented(function: Any) -> Any:
    """A decorator as some are: it says by itself what the function takes."""
    function.__signature__ = inspect.signature(function)
    return function


class Unasked:
    """Can be called, but not be asked how."""

    def __call__(self, message: Any, ctx: Any) -> None: ...

    @property
    def __signature__(self) -> None:
        raise RuntimeError


@pytest.mark.parametrize(
    "fit",
    [
        injecting(lambda something, message, ctx: None),
        injecting(documented(lambda something, message, ctx: None)),
        Unasked(),
        Mock(spec=handler),
        create_autospec(handler),
        lambda *both: None,
        lambda message, ctx, /: None,
        lambda message, context, more=1: None,
        Handling(),
        Handling().method,
        Handling.of_the_class,
        Handling.static,
        functools.partial(lambda more, message, ctx: None, 1),
        functools.partial(lambda message, ctx, *, more: None, more=1),
        max,
        dict.get,
    ],
)
def test_whatever_can_be_called_with_an_input_and_a_context_is_a_handler(fit: Any) -> None:
    flow = pgflow.Flow("shop")
    flow.step("a")(fit)
    flow.map("a", slug="b")(fit)
    pgflow.job("mail")(fit)


@pytest.mark.parametrize(
    ("unfit", "takes"),
    [
        (lambda: None, r"\(\)"),
        (lambda message: None, r"\(message\)"),
        (lambda message, ctx, more: None, r"\(message, ctx, more\)"),
        (lambda message, *, ctx: None, r"\(message, \*, ctx\)"),
        (lambda message, *, key="secret": None, r"\(message, \*, key\)"),
        (Handling.method, r"\(self, message, ctx\)"),
        (functools.partial(handler, 1), r"\(_ctx\)"),
    ],
)
def test_a_handler_without_a_context_is_refused_where_it_is_declared(unfit: Any, takes: str) -> None:
    flow = pgflow.Flow("shop")
    flow.step("first")(handler)
    told = rf"step 'mail': handler takes {takes}, but is called with \(input, ctx\): give it these two parameters$"
    for declare in (flow.step("mail"), flow.map("first", slug="mail"), pgflow.job("mail")):
        with pytest.raises(ValueError, match=told):
            declare(unfit)
    with pytest.raises(ValueError, match=told):
        pgflow.FlowDefinition("shop", (pgflow.StepDefinition("mail", unfit),))
    assert [s.slug for s in flow.__pgflow_definition__().steps] == ["first"]


async def coroutine(_input: Any, _ctx: Any) -> None:
    return None


class Awaiting:
    """Asynchronous handlers of every form."""

    async def method(self, message: Any, ctx: Any) -> None: ...

    async def __call__(self, message: Any, ctx: Any) -> None: ...


@functools.wraps(coroutine)
def wrapper(*given: Any) -> Any:
    return coroutine(*given)


ASYNC = [
    coroutine,
    Awaiting(),
    Awaiting().method,
    functools.partial(coroutine),
    functools.partial(functools.partial(Awaiting())),
    AsyncMock(),
]
PLAIN = [handler, max, Handling(), functools.partial(handler), Mock(), create_autospec(handler), Awaiting, wrapper]


@pytest.mark.parametrize("handler", ASYNC, ids=range(len(ASYNC)))
def test_whatever_makes_a_coroutine_by_its_declaration_is_asynchronous(handler: Any) -> None:
    pgflow.job("mail")(handler)
    assert is_async(handler)


@pytest.mark.parametrize("handler", PLAIN, ids=range(len(PLAIN)))
def test_all_else_is_plain_and_so_is_a_plain_function_around_a_coroutine_function(handler: Any) -> None:
    assert not is_async(handler)
