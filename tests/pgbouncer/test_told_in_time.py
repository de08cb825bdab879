"""A transaction pooler where LISTEN would have to go is told as such in some five seconds."""

from __future__ import annotations

import time

from tests.support.starters import echo_job, running


def test_a_starter_behind_it_is_told_within_seven_seconds(pooled: str) -> None:
    began = time.monotonic()
    with running(pooled, jobs=[echo_job()], signal_strategy="notify") as starter:
        starter.await_ready(20)
        took = time.monotonic() - began
        state = starter.status().modules[0]
        assert state.status == "failed_permanent"
        assert state.last_error is not None
        assert "transaction pooler" in state.last_error.reason
    assert took < 7
