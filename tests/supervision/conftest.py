"""A stage for each test of the supervisor, cleared when the test ends."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from tests.supervision.world import Journal, Stage


@pytest.fixture
def stage() -> Iterator[Stage]:
    """Journal, manual clock, named events, and supervisors that are stopped at the end."""
    made = Stage()
    yield made
    made.close()


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
