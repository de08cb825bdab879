"""Waiting for a starter that is stopped, just when the wait begins."""

from __future__ import annotations

from queue import SimpleQueue

import pytest

from pgflow_starter.clock import SystemClock
from pgflow_starter.core.modules import module_specs
from pgflow_starter.core.phases import phases_of
from pgflow_starter.errors import StarterStopped
from pgflow_starter.modules.board import Board
from tests.modules.rig import NoOutage
from tests.support.pauses import Between

WAIT = 30.0


@pytest.mark.parametrize(
    ("done", "next_"),
    [
        ("waiter: SimpleQueue", "self._waiters[id(waiter)] = waiter"),
        ("self._waiters[id(waiter)] = waiter", "self.check_open()"),
        ("self.check_open()", "self.status().ready"),
        ("left <= 0", "waiter.get("),
    ],
)
@pytest.mark.parametrize("timeout", [None, 3600.0])
def test_who_is_about_to_wait_until_it_is_ready_hears_of_the_stop(done: str, next_: str, timeout: float | None) -> None:
    board = Board(module_specs(("shop",), ()), phases_of("polling"), SystemClock(), NoOutage(), lambda *_: None)
    ended = SimpleQueue[object]()

    def wait() -> None:
        try:
            board.await_ready(timeout)
        except StarterStopped as stopped:
            ended.put(stopped)

    with Between(Board.await_ready, done, next_) as pair:
        pair.beside(wait)
        pair.reached()
        board.close(lambda: StarterStopped("the starter was stopped"))
        pair.go_on()
        assert isinstance(ended.get(timeout=WAIT), StarterStopped)
    assert board.waiting == 0
