"""A stage for each test of the supervisor, cleared when the test ends."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from pgflow_starter.clock import SystemClock
from pgflow_starter.threads.cache import ThreadCache
from pgflow_starter.threads.dispatcher import Dispatcher
from pgflow_starter.threads.timers import TimerThread
from tests.supervision.world import PATIENCE, Journal, Stage


@pytest.fixture(params=["threads", "dispatched"])
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    """Journal, manual clock, named events, and supervisors that are stopped at the end.

    Each test is played with actors that have a thread each, and again with some that take turns on a few, unless it is
    marked `own_threads`.
    """
    if request.param == "threads":
        made = Stage()
        yield made
        made.close()
        return
    clock = SystemClock()
    threads, timers = ThreadCache("pgflow-test"), TimerThread(clock)
    dispatcher = Dispatcher(threads, timers, clock)
    dispatcher.start()
    made = Stage(dispatcher)
    yield made
    made.close()
    dispatcher.close()
    timers.close()
    assert threads.close(PATIENCE) == 0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Those that are about threads are played once."""
    items[:] = [item for item in items if not (item.get_closest_marker("own_threads") and "dispatched" in item.name)]


@pytest.fixture
def journal(stage: Stage) -> Journal:
    """What happened on the stage."""
    return stage.journal


@pytest.fixture
def thread_famine(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Call it with a number: so many starts of a puppet's thread fail as they do where the system has no more."""
    start = threading.Thread.start
    missing = 0

    def hungry_start(thread: threading.Thread) -> None:
        nonlocal missing
        if missing > 0 and thread.name.startswith("pgflow-puppet"):
            missing -= 1
            raise RuntimeError("can't start new thread")
        start(thread)

    def famine(count: int) -> None:
        nonlocal missing
        missing = count

    monkeypatch.setattr(threading.Thread, "start", hungry_start)
    return famine
