"""Settings: the defaults of the contract, every bound, and all problems told at once."""

from __future__ import annotations

import math
from typing import Any

import pytest

from pgflow_starter import Backoff, SignalStrategy
from pgflow_starter.config import Settings, settings_from

DEFAULTS = {
    "signal_strategy": "polling",
    "notify_throttle": 0.25,
    "backoff": Backoff(base=1.0, maximum=30.0, jitter=0.2),
    "phase_timeout": 30.0,
    "listen_conninfo": None,
    "pool_size": 10,
    "max_concurrency": 10,
    "batch_size": 10,
    "min_poll_interval": 1.0,
    "max_poll_interval": 5.0,
    "notify_fallback_interval": 30.0,
    "heartbeat_interval": 10.0,
    "recovery_interval": 15.0,
    "stale_threshold": 60.0,
    "shutdown_timeout": 30.0,
    "lazy": False,
    "retention": None,
    "tracer_provider": None,
    "meter_provider": None,
    "logger_provider": None,
}

# name: values that are right, values that are not
SECONDS: dict[str, tuple[list[float], list[Any]]] = {
    "notify_throttle": ([0, 0.25, 1], [-0.1]),
    "phase_timeout": ([0.01, 30, 3600], [0, -1]),
    "min_poll_interval": ([0.01, 1, 5], [0, -1, 301]),
    "max_poll_interval": ([1, 5, 300], [0, -1, 300.1]),
    "notify_fallback_interval": ([0.01, 30, 600], [0, -1, 600.1]),
    "heartbeat_interval": ([0.1, 10, 20], [0, -1]),
    "recovery_interval": ([0.1, 15], [0, -1]),
    "stale_threshold": ([30, 60, 3600], [0, -1]),
    "shutdown_timeout": ([0, 0.5, 30], [-1]),
}
COUNTS = ("pool_size", "max_concurrency", "batch_size")
NO_NUMBERS: list[Any] = [None, True, "1", math.nan, math.inf, -math.inf, 10**400, [1]]


def made(**given: Any) -> Settings:
    return settings_from("dbname=shop", given)


def test_the_defaults_are_those_of_the_contract() -> None:
    assert {name: getattr(made(), name) for name in DEFAULTS} == DEFAULTS


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, (good, _) in SECONDS.items() for value in good])
def test_a_time_within_its_bounds_is_taken_as_it_is(name: str, value: float) -> None:
    assert getattr(made(**{name: value}), name) == value


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name, (_, bad) in SECONDS.items() for value in (*bad, *NO_NUMBERS)],
    ids=lambda v: str(v)[:24],
)
def test_a_time_out_of_its_bounds_is_refused_by_name_and_bound(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"{name} must be a number of seconds (above|from) 0"):
        made(**{name: value})


@pytest.mark.parametrize("name", COUNTS)
def test_a_count_is_an_int_of_at_least_one(name: str) -> None:
    assert getattr(made(**{name: 1}), name) == 1
    for bad in (0, -1, 1.5, 10**9, *NO_NUMBERS):
        with pytest.raises(ValueError, match=rf"{name} must be an int from 1 to \d+"):
            made(**{name: bad})


@pytest.mark.parametrize("value", ["notify", SignalStrategy.NOTIFY])
def test_the_signal_strategy_may_be_told_as_text(value: str) -> None:
    assert made(signal_strategy=value).signal_strategy is SignalStrategy.NOTIFY


@pytest.mark.parametrize("value", ["Notify", "", None, 1, ["notify"]])
def test_another_signal_strategy_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="signal_strategy must be 'polling' or 'notify'"):
        made(signal_strategy=value)


@pytest.mark.parametrize("value", [None, 1.0, {"base": 1}])
def test_a_backoff_is_a_backoff(value: Any) -> None:
    with pytest.raises(ValueError, match="backoff must be a Backoff"):
        made(backoff=value)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"min_poll_interval": 6}, r"min_poll_interval must be at most max_poll_interval, got 6 > 5\.0"),
        ({"max_poll_interval": 0.5}, r"min_poll_interval must be at most max_poll_interval, got 1\.0 > 0\.5"),
        ({"heartbeat_interval": 30}, r"stale_threshold must be at least 3 \* heartbeat_interval = 90, got 60\.0"),
        ({"stale_threshold": 29.9}, r"stale_threshold must be at least 3 \* heartbeat_interval = 30\.0, got 29\.9"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(given: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        made(**given)


def test_settings_at_their_common_bound_are_accepted() -> None:
    assert made(min_poll_interval=2, max_poll_interval=2).min_poll_interval == 2
    assert made(heartbeat_interval=0.1, stale_threshold=0.3).stale_threshold == 0.3


def test_an_unknown_setting_is_refused_with_the_one_that_was_meant() -> None:
    with pytest.raises(ValueError, match=r"unknown setting 'pool_sizes' \(did you mean 'pool_size'\?\)"):
        made(pool_sizes=3)
    with pytest.raises(ValueError, match=r"unknown setting 'xyzzy'$"):
        made(xyzzy=3)


@pytest.mark.parametrize("value", [3, b"password=secret", ["password=secret"]])
def test_a_connection_string_that_is_no_string_is_refused_without_being_shown(value: Any) -> None:
    with pytest.raises(ValueError, match=r"^conninfo must be.*listen_conninfo must be a libpq") as told:
        settings_from(value, {"listen_conninfo": value})
    assert "secret" not in str(told.value)


def test_a_connection_string_is_not_in_the_settings_own_text() -> None:
    assert "secret" not in repr(made(listen_conninfo="password=secret"))


def test_every_bad_setting_is_named_at_once() -> None:
    bad: dict[str, Any] = {
        "signal_strategy": "pigeon",
        "backoff": 3,
        "lazy": "yes",
        "listen_conninfo": 3,
        "nonsense": 1,
        **dict.fromkeys(SECONDS, -1),
        **dict.fromkeys(COUNTS, 0),
    }
    with pytest.raises(ValueError, match="conninfo must be") as told:
        settings_from(None, bad)
    problems = str(told.value).split("; ")
    assert len(problems) == len(bad) + 1
    assert all(any(name in problem for problem in problems) for name in bad)


@pytest.mark.parametrize("name", ["tracer_provider", "meter_provider", "logger_provider"])
def test_a_provider_that_raises_when_it_is_looked_at_is_refused_by_name(name: str) -> None:
    class Odd:
        def __getattr__(self, name: str) -> Any:
            raise RuntimeError(name)

    with pytest.raises(ValueError, match=rf"{name} must be an OpenTelemetry provider with .*, got Odd"):
        made(**{name: Odd()})
