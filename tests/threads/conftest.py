"""Rigs of the tests about threads: a cache that is closed in the end, and calls that are let go before that."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from pgflow_starter.threads.cache import ThreadCache
from tests.support.waiting import eventually

WAIT = 10.0


class Call:
    """A call that says when it has begun and waits to be let go."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.go_on = threading.Event()
        self.ended = threading.Event()
        self.thread: threading.Thread | None = None

    def __call__(self) -> None:
        self.thread = threading.current_thread()
        self.begun.set()
        self.go_on.wait()
        self.ended.set()


@pytest.fixture
def cache() -> Iterator[ThreadCache]:
    made = ThreadCache("pgflow-test")
    yield made
    made.close(WAIT)


@pytest.fixture
def calls(cache: ThreadCache) -> Iterator[Callable[[], Call]]:
    """Makes calls, and lets all go before the cache is closed."""
    made: list[Call] = []

    def make() -> Call:
        made.append(Call())
        return made[-1]

    yield make
    for call in made:
        call.go_on.set()


def idle(cache: ThreadCache, count: int) -> None:
    """Wait until so many of its threads have nothing to do."""
    eventually(lambda: len(cache.names()) - cache.busy() == count)


def no_thread(_: object) -> None:
    """In the place of what starts a thread."""
    raise RuntimeError("no thread")
