"""Bad settings: one error that names them all, at once, and shows no password."""

from __future__ import annotations

import threading

import pytest

import pgflow_starter as pgflow


def test_every_bad_setting_is_named_with_its_bound() -> None:
    with pytest.raises(ValueError, match="pool_size") as caught:
        pgflow.start(  # type: ignore[call-arg]
            "postgresql://u:topsecret@h/d",
            pool_size=0,
            min_poll_interval=10,
            max_poll_interval=2,
            signal_strategy="carrier pigeon",  # type: ignore[arg-type]
            stale_threshold=29.9,
            polling=True,
        )
    message = str(caught.value)
    for part in (
        "pool_size must be an int from 1",
        "min_poll_interval must be at most max_poll_interval",
        "'polling' or 'notify'",
        "stale_threshold must be at least 3 * heartbeat_interval = 30",
        "unknown setting 'polling'",
    ):
        assert part in message
    assert "topsecret" not in message


def test_modules_that_are_no_list_are_refused() -> None:
    with pytest.raises(TypeError, match="flows must be a list"):
        pgflow.start("", flows="shop.flows")


def test_nothing_was_started_by_a_refused_call() -> None:
    before = threading.active_count()
    with pytest.raises(ValueError, match="conninfo"):
        pgflow.start(None)  # type: ignore[arg-type]
    assert threading.active_count() == before
