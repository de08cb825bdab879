"""Which annotation counts, whatever the handler is, and what is refused where it is declared."""

from __future__ import annotations

import functools
import pathlib
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, TypedDict
from unittest.mock import create_autospec

import pydantic
import pydantic.dataclasses
import pytest

import pgflow_starter as pgflow

if TYPE_CHECKING:
    from decimal import Decimal

    from somewhere import Context, Unknown  # type: ignore[import-not-found]


@dataclass
class Order:
    id: int


class OrderDict(TypedDict):
    id: int


class OrderModel(pydantic.BaseModel):
    id: int


@pydantic.dataclasses.dataclass
class OrderOfPydantic:
    id: int


@dataclass
class Strange:
    path: pathlib.Path


@dataclass
class Mixed:
    order: OrderOfPydantic


@dataclass
class Later:
    order: "Undefined"  # type: ignore[name-defined]  # noqa: F821, UP037


def handler(order: Order, ctx: Context) -> Any: ...


def plain_json(numbers: dict[str, Any], ctx: Context) -> Any: ...


def injected(something: Any, order: Order, ctx: Context) -> Any: ...


def injected_otherwise(something: Any, message: Order, ctx: Context) -> Any: ...


async def coroutine(order: Order, ctx: Context) -> Any: ...


def passing_on(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


def injecting(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(order: Any, ctx: Any) -> Any:
        return function("something", order, ctx)

    return wrapper


class Handling:
    def __call__(self, order: Order, ctx: Context) -> Any: ...

    def method(self, order: Order, ctx: Context) -> Any: ...

    @passing_on
    def decorated(self, order: Order, ctx: Context) -> Any: ...

    @classmethod
    def of_the_class(cls, order: Order, ctx: Context) -> Any: ...

    @staticmethod
    def static(order: Order, ctx: Context) -> Any: ...


def given_to(function: Any) -> str | None:
    """The name of the type that it gets; None for plain JSON."""
    payload = pgflow.StepDefinition("a", function).payload
    return None if payload is None else payload.name


FORMS = {
    "function": handler,
    "coroutine": coroutine,
    "decorated in C": functools.cache(handler),
    "decorated": passing_on(passing_on(handler)),
    "injecting": injecting(injected),
    "partial": functools.partial(handler),
    "partial of decorated": functools.partial(passing_on(handler)),
    "object": Handling(),
    "method": Handling().method,
    "decorated method": Handling().decorated,
    "classmethod": Handling.of_the_class,
    "staticmethod": Handling.static,
}


@pytest.mark.parametrize("form", FORMS)
def test_a_handler_of_any_form_gets_what_its_input_is_annotated_with(form: str) -> None:
    assert given_to(FORMS[form]) == "Order"


@pytest.mark.parametrize(
    "untyped",
    [plain_json, injecting(injected_otherwise), create_autospec(plain_json), lambda given, ctx: None, max],
    ids=["dict", "injecting", "autospec", "lambda", "builtin"],
)
def test_what_has_no_such_annotation_gets_plain_json(untyped: Any) -> None:
    assert given_to(untyped) is None


def test_classes_of_what_is_around_the_declaration_are_found() -> None:
    @dataclass
    class Mine:
        id: int

    class Holder:
        @dataclass
        class Inner:
            id: int

        @pgflow.job("inner")
        def inner(given: Inner, ctx: Context) -> Any: ...  # noqa: N805

        @pgflow.job("outer")
        def outer(given: Mine, ctx: Context) -> Any: ...  # noqa: N805

    def deeper() -> str | None:
        def handle(given: Annotated[Mine, "the order"], ctx: Context) -> Any: ...

        return given_to(handle)

    assert [given_to(made.handler) for made in (Holder.outer,)] == ["Mine"]
    (step,) = Holder.inner.__pgflow_definition__().steps
    assert step.payload is not None
    assert step.payload.name == "Inner"
    assert deeper() == "Mine"


def unknown(given: Unknown, ctx: Any) -> Any: ...


def not_at_run_time(given: list[Decimal], ctx: Any) -> Any: ...


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        (unknown, "the annotation of its input cannot be resolved, NameError: name 'Unknown' is not defined; .*Any"),
        (not_at_run_time, "cannot be resolved, NameError: name 'Decimal'.*not under TYPE_CHECKING"),
        (Strange, "its input cannot be decoded to Strange: Path within it is no type that JSON is read as"),
        (Mixed, "OrderOfPydantic within it is a dataclass of pydantic's: only its models may be there"),
        (Later, "its input cannot be decoded to Later: name 'Undefined' is not defined"),
        (pgflow.TaskContext, "its input cannot be decoded to TaskContext"),
    ],
    ids=lambda value: getattr(value, "__name__", "told"),
)
def test_an_annotation_that_cannot_be_kept_is_refused_where_it_is_declared(bad: Any, told: str) -> None:
    def annotated(given: Any, ctx: Any) -> Any: ...

    if isinstance(bad, type):
        annotated.__annotations__["given"] = bad
    else:
        annotated = bad
    flow = pgflow.Flow("shop")
    for declare in (flow.step("mail"), flow.map(slug="mail"), pgflow.job("mail")):
        with pytest.raises(ValueError, match=f"^step 'mail': .*{told}"):
            declare(annotated)


@pytest.mark.parametrize(
    ("kind", "missing", "extra"),
    [(Order, "msgspec", "typed"), (OrderDict, "msgspec", "typed"), (OrderModel, "pydantic", "pydantic")],
    ids=["dataclass", "TypedDict", "model"],
)
def test_without_the_extra_an_annotated_handler_is_refused_where_it_is_declared(
    kind: Any, missing: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def annotated(given: Any, ctx: Any) -> Any: ...

    annotated.__annotations__["given"] = kind
    monkeypatch.setitem(sys.modules, missing, None)
    told = rf"step 'mail': decoding its input to {kind.__name__} needs {missing}, .* pip install '\.\[{extra}\]'"
    with pytest.raises(pgflow.MissingExtraError, match=told):
        pgflow.job("mail")(annotated)
    assert given_to(plain_json) is None


def test_a_step_with_another_handler_decodes_as_it_did() -> None:
    step = pgflow.StepDefinition("a", handler)
    assert replace(step, handler=lambda given, ctx: None).payload is step.payload
