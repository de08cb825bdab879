"""`QueueWatch`: queues are read while somebody asks, and no more often than they need be."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import pytest

from pgflow_starter.core.readings import QueueDepth
from pgflow_starter.errors import DatabaseError
from pgflow_starter.testing import ManualTimers
from pgflow_starter.worker.queue_watch import ASKED_WITHIN, INTERVAL, PAUSE, QueueWatch

FULL = QueueDepth("orders", 3, 1, 2.5)


class Rig:
    """`ports.QueueDepthStore`, and threads on which what is run is run at once. A reading takes `takes` seconds."""

    def __init__(self) -> None:
        self.timers = ManualTimers()
        self.takes = 0.0
        self.readings = 0
        self.error: Exception | None = None
        self.away = False
        self.queues = ["orders"]
        self.watch = QueueWatch(
            self,
            lambda: self.queues,
            self.timers.clock,
            self.timers,
            self,  # type: ignore[arg-type] # as much of the threads as is used
            lambda: self.away,
        )

    def run(self, call: Any) -> None:
        call()

    def depths(self, queues: Sequence[str]) -> Sequence[QueueDepth]:
        self.readings += 1
        self.timers.clock.advance(self.takes)
        if self.error is not None:
            raise self.error
        return [FULL] if list(queues) == ["orders"] else []


def test_the_first_to_ask_has_them_read_and_then_they_are_at_intervals() -> None:
    rig = Rig()
    rig.timers.advance(10 * INTERVAL)
    assert rig.readings == 0
    for _ in range(3):
        assert rig.watch.depths() == [FULL]
    assert rig.readings == 1
    rig.timers.advance(INTERVAL)
    assert rig.readings == 2


def test_where_nobody_asks_any_more_they_are_not_read_until_somebody_does() -> None:
    rig = Rig()
    rig.watch.depths()
    for _ in range(int(2 * ASKED_WITHIN / INTERVAL)):
        rig.timers.advance(INTERVAL)
    read = rig.readings
    assert read <= ASKED_WITHIN / INTERVAL + 1
    rig.timers.advance(ASKED_WITHIN)
    assert rig.readings == read
    rig.watch.depths()
    assert rig.readings == read + 1


def test_what_takes_long_is_read_less_often() -> None:
    rig = Rig()
    rig.takes = 1.0
    rig.watch.depths()
    rig.timers.advance(PAUSE - 1)
    assert rig.readings == 1
    rig.timers.advance(2)
    assert rig.readings == 2


def test_while_reading_fails_nothing_is_said_and_the_log_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig()
    rig.watch.depths()
    with caplog.at_level(logging.INFO, "pgflow_starter.housekeeping"):
        rig.error = DatabaseError("permission denied", sqlstate="42501")
        for _ in range(3):
            rig.timers.advance(INTERVAL)
            assert rig.watch.depths() == ()
        rig.error = None
        rig.timers.advance(INTERVAL)
    assert rig.watch.depths() == [FULL]
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


@pytest.mark.parametrize("because", ["an outage", "no worker"])
def test_nothing_is_read_in_an_outage_or_where_there_is_no_queue(because: str) -> None:
    rig = Rig()
    rig.away = because == "an outage"
    rig.queues = [] if because == "no worker" else ["orders"]
    assert rig.watch.depths() == ()
    assert rig.readings == 0
