"""The setting `middleware`: what is refused, by name and with what to do."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, nullcontext
from functools import partial
from typing import Any

import pytest

from pgflow_starter.config import settings_from


def around(ctx: Any) -> AbstractContextManager[None]:
    return nullcontext()


@contextmanager
def decorated(ctx: Any) -> Iterator[None]:
    yield


def undecorated(ctx: Any) -> Iterator[None]:
    yield


def without_context() -> AbstractContextManager[None]:
    return nullcontext()


async def coroutine(ctx: Any) -> None: ...


@asynccontextmanager
async def asynchronous(ctx: Any) -> AsyncIterator[None]:
    yield


class Around:
    def __init__(self, ctx: Any) -> None: ...

    def __enter__(self) -> None: ...

    def __exit__(self, *raised: object) -> None: ...


class Odd:
    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)

    def __call__(self, ctx: Any) -> Any: ...


def test_functions_classes_and_whatever_else_can_be_called_are_taken_in_their_order() -> None:
    given = [around, decorated, Around, partial(around), lambda ctx: nullcontext(), Odd(), around]
    for of in (given, tuple(given), iter(given)):
        assert settings_from("", {"middleware": of}).middleware == tuple(given)
    assert settings_from("", {}).middleware == ()


@pytest.mark.parametrize("given", ["shop.around", None, 7, around], ids=["text", "none", "number", "function"])
def test_what_is_no_list_is_refused(given: Any) -> None:
    with pytest.raises(
        ValueError, match=r"^middleware must be a list of functions \(task_context\) -> context manager"
    ):
        settings_from("", {"middleware": given})


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("shop.around", r"got 'shop\.around'$"),
        (None, "got None$"),
        (decorated(None), "a _GeneratorContextManager, a context manager: pass the function that makes it"),
        (undecorated, r"generator function .*\.undecorated: decorate it with contextlib\.contextmanager"),
        (without_context, r"\.without_context, which cannot be called with a task context alone"),
        (coroutine, r"\.coroutine, which is asynchronous"),
        (asynchronous, r"\.asynchronous, which is asynchronous"),
    ],
    ids=["text", "none", "made", "undecorated", "no parameter", "coroutine", "asynchronous"],
)
def test_what_makes_no_context_manager_is_refused_where_that_can_be_seen(given: Any, told: str) -> None:
    with pytest.raises(ValueError, match=f"^middleware must hold functions .*{told}"):
        settings_from("", {"middleware": [around, given]})


def test_every_bad_one_is_told_beside_the_other_bad_settings() -> None:
    with pytest.raises(ValueError, match="middleware must hold") as told:
        settings_from("", {"middleware": [1, around, 2], "lazy": 1})
    assert len(str(told.value).split("; ")) == 3
