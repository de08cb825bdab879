"""When a worker polls for a message that is not visible yet, by what its claims and looks have seen."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from queue import SimpleQueue
from typing import Any

import pytest

from pgflow_starter.core.task import Claimed
from pgflow_starter.testing import ManualTimers
from pgflow_starter.worker.next_due import VISIBLE_MARGIN, NextDue

EMPTY, PARTIAL, FULL = 0, 3, 10


class Worker:
    """The times at which it polls, in seconds since its beginning."""

    def __init__(self) -> None:
        self.timers = ManualTimers()
        self._began = self.timers.clock.monotonic()
        self._polls = SimpleQueue[float]()
        self.due = NextDue(
            self.timers.clock, self.timers, lambda: self._polls.put(self.timers.clock.monotonic() - self._began)
        )

    def claims(self, read: int, visible_in: float | None) -> None:
        self.due.claimed(Claimed(read, (), visible_in), FULL)

    def polls_within(self, seconds: float) -> list[float]:
        self.timers.advance(seconds)
        return [self._polls.get() for _ in range(self._polls.qsize())]


@pytest.fixture
def worker() -> Worker:
    return Worker()


def after(seconds: float) -> list[Any]:
    return [pytest.approx(seconds + VISIBLE_MARGIN)]


@pytest.mark.parametrize("read", [EMPTY, PARTIAL])
@pytest.mark.parametrize("seconds", [0.25, 250.0, 2.5e6])
def test_it_polls_once_when_what_a_claim_saw_becomes_visible(worker: Worker, read: int, seconds: float) -> None:
    worker.claims(read, seconds)
    assert worker.polls_within(2 * seconds) == after(seconds)


def test_what_became_visible_meanwhile_is_polled_for_at_once(worker: Worker) -> None:
    worker.claims(PARTIAL, -2.0)
    assert worker.polls_within(1.0) == after(0.0)


def test_a_full_claim_says_nothing_of_what_was_seen_before_it(worker: Worker) -> None:
    worker.claims(EMPTY, 60.0)
    worker.claims(FULL, None)
    assert worker.polls_within(100.0) == after(60.0)


@pytest.mark.parametrize("later", [None, inf, 90.0])
def test_a_later_claim_puts_off_what_an_earlier_one_expected(worker: Worker, later: float | None) -> None:
    worker.claims(PARTIAL, 1.0)
    worker.claims(EMPTY, later)
    assert worker.polls_within(89.0) == []
    assert worker.polls_within(2.0) == (after(90.0) if later == 90.0 else [])


def test_a_look_brings_a_poll_forward_and_puts_none_off(worker: Worker) -> None:
    worker.due.looked(None)
    worker.due.looked(60.0)
    worker.due.looked(30.0)
    for later in (None, 45.0):
        worker.due.looked(later)
    assert worker.polls_within(100.0) == after(30.0)


def test_without_a_thread_for_timers_the_next_claim_arms_it_all_the_same(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(delay: float, call: Callable[[], object]) -> None:
        raise RuntimeError("can't start new thread")

    worker.claims(EMPTY, 60.0)
    with monkeypatch.context() as patched:
        patched.setattr(worker.timers, "after", refuse)
        worker.claims(EMPTY, 5.0)
    worker.claims(EMPTY, 5.0)
    assert worker.polls_within(10.0) == after(5.0)
