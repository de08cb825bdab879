"""The probe's thread: who waits for an answer gets one, whatever another makes of it."""

from __future__ import annotations

import threading

from pgflow_starter.clock import SystemClock
from pgflow_starter.postgres.connections.pace import Pace
from pgflow_starter.postgres.connections.prober import Prober


def test_one_that_raises_when_the_probe_has_answered_keeps_nobody_from_being_told() -> None:
    def failing() -> None:
        raise ValueError("no")

    told, ended = threading.Event(), threading.Event()
    clock = SystemClock()
    prober = Prober(clock, Pace(clock), probe=lambda: None, up=lambda: None, away=lambda error: True, ended=ended.set)
    prober.doubt(failing)
    prober.doubt(told.set)
    try:
        prober.revive()
        assert told.wait(10)
    finally:
        prober.close()
    assert ended.wait(10)


def test_once_it_is_closed_no_thread_is_started() -> None:
    ended = threading.Event()
    clock = SystemClock()
    prober = Prober(clock, Pace(clock), probe=lambda: None, up=lambda: None, away=lambda error: True, ended=ended.set)
    prober.close(wait=False)
    prober.revive()
    prober.close()  # would wait for it
    assert not ended.is_set()
