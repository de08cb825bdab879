"""When a worker polls next: tables over the pure decisions."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgflow_starter import FlowDefinition, SignalStrategy, StepDefinition
from pgflow_starter.worker.poll_intervals import (
    BRIDGE,
    FORESEEN,
    QUICK,
    PollPolicy,
    dependents_delays,
    retry_delay,
    root_delays,
    snooze_delay,
)

POLLING = PollPolicy(SignalStrategy.POLLING, least=1.0, most=5.0, fallback=30.0, throttle=0.25)
NOTIFY = PollPolicy(SignalStrategy.NOTIFY, least=1.0, most=5.0, fallback=30.0, throttle=0.25)
EPSILON = 0.05
"""Seconds by which a poll may come after what it is for has become visible."""


def flow(*steps: StepDefinition, **options: Any) -> FlowDefinition:
    return FlowDefinition("shop", steps, **options)


def step(slug: str, *depends_on: str, **options: Any) -> StepDefinition:
    return StepDefinition(slug, lambda _input, _ctx: None, depends_on=depends_on, **options)


@pytest.mark.parametrize(
    ("since_work", "expected"),
    [
        ([float("inf")] * 5, [1, 2, 4, 5, 5]),
        ([0, 0.1, 0.2], [QUICK] * 3),
        ([BRIDGE - 0.1, BRIDGE, 6, 7, 0, 0.1], [QUICK, 1, 2, 4, QUICK, QUICK]),
    ],
)
def test_polling_is_quick_while_there_was_work_and_slows_down_when_nothing_comes(
    since_work: list[float], expected: list[float]
) -> None:
    last, intervals = 0.0, []
    for seconds in since_work:
        last = POLLING.after(seconds, last)
        intervals.append(last)
    assert intervals == expected


def test_who_asks_for_quicker_polling_has_it_after_work_as_well() -> None:
    assert PollPolicy(SignalStrategy.POLLING, 0.02, 5.0, 30.0, 0.25).after(0.0, 1.0) == 0.02


def test_who_asks_for_slower_polling_has_it_after_work_as_well() -> None:
    assert PollPolicy(SignalStrategy.POLLING, 1.5, 5.0, 30.0, 0.25).after(0.0, 5.0) == 1.5


@pytest.mark.parametrize("since_work", [0.0, 100.0])
def test_under_notify_only_the_safety_poll_is_left(since_work: float) -> None:
    assert NOTIFY.after(since_work, 0.0) == NOTIFY.after(since_work, 5.0) == 30.0


@pytest.mark.parametrize(
    ("policy", "since_work", "expected"),
    [(POLLING, 0.0, False), (POLLING, BRIDGE, True), (POLLING, float("inf"), True), (NOTIFY, float("inf"), False)],
)
def test_work_that_ends_after_a_long_while_makes_polling_quick_again(
    policy: PollPolicy, since_work: float, expected: bool
) -> None:
    assert policy.quickens(since_work) is expected


@pytest.mark.parametrize("policy", [POLLING, NOTIFY], ids=["polling", "notify"])
def test_failed_polls_are_repeated_soon_and_then_slower(policy: PollPolicy) -> None:
    last, intervals = 0.0, []
    for _ in range(5):
        last = policy.after_error(last)
        intervals.append(last)
    assert intervals == [1, 2, 4, 5, 5]
    assert policy.after_error(30.0) == 5.0


@given(st.lists(st.sampled_from(["work", "nothing", "error"])), st.floats(0.01, 300), st.floats(0.01, 300))
def test_no_polling_interval_leaves_the_bounds(polls: list[str], one: float, other: float) -> None:
    least, most = sorted((one, other))
    policy = PollPolicy(SignalStrategy.POLLING, least, most, 30.0, 0.25)
    last = 0.0
    for poll in polls:
        last = policy.after_error(last) if poll == "error" else policy.after(0.0 if poll == "work" else BRIDGE, last)
        assert (min(QUICK, least) if poll == "work" else least) <= last <= most


@pytest.mark.parametrize(
    ("strategy", "throttle", "expected"),
    [
        (SignalStrategy.NOTIFY, 0.25, 0.25),
        (SignalStrategy.NOTIFY, 2.0, 2.0),
        (SignalStrategy.NOTIFY, 0.0, None),
        (SignalStrategy.POLLING, 0.25, None),
    ],
)
def test_a_throttled_wake_up_is_followed_by_one_more_poll(
    strategy: SignalStrategy, throttle: float, expected: float | None
) -> None:
    trailing = PollPolicy(strategy, 1.0, 5.0, 30.0, throttle).trailing
    if expected is None:
        assert trailing is None
    else:
        assert trailing is not None
        assert expected < trailing < expected + EPSILON


@pytest.mark.parametrize(
    ("flow_options", "step_options", "attempt", "expected"),
    [
        ({}, {}, 1, 10),  # base_delay 5 doubled by each attempt made
        ({}, {}, 2, 20),
        ({}, {}, 3, None),
        ({}, {}, 99, None),
        ({"max_attempts": 1}, {}, 1, None),
        ({"max_attempts": 1}, {"max_attempts": 2}, 1, 10),
        ({"base_delay": 60}, {"base_delay": 0}, 1, 0),
        ({"base_delay": 0}, {"base_delay": 7}, 2, 28),
        ({"max_attempts": 10_000}, {}, 9_999, 86_400),
    ],
)
def test_a_failed_task_is_looked_for_when_pgflow_makes_it_visible_again(
    flow_options: dict[str, int], step_options: dict[str, int], attempt: int, expected: float | None
) -> None:
    made = flow(step("a", **step_options), **flow_options)
    delay = retry_delay(made, made.steps[0], attempt)
    if expected is None:
        assert delay is None
    else:
        assert delay is not None
        assert expected < delay < expected + EPSILON


def test_the_steps_behind_a_completed_one_are_looked_for_when_they_are_visible() -> None:
    made = flow(
        step("a"),
        step("b", "a"),
        step("c", "b", start_delay=3),
        step("d", "c", start_delay=0),
        step("e", "b", start_delay=7),
    )
    assert dependents_delays(made, "a") == {0}
    assert dependents_delays(made, "c") == {0}
    assert dependents_delays(made, "d") == set()
    assert dependents_delays(made, "no such step") == set()
    sooner, later = sorted(dependents_delays(made, "b"))
    assert 3 < sooner < 3 + EPSILON
    assert 7 < later < 7 + EPSILON


def test_root_steps_that_start_later_are_looked_for_when_they_are_visible() -> None:
    assert root_delays(flow(step("a"), step("b", "a", start_delay=9))) == set()
    (later,) = root_delays(flow(step("a", start_delay=2), step("b", start_delay=0)))
    assert 2 < later < 2 + EPSILON


def test_a_task_that_snoozes_is_looked_for_after_its_time_and_soon() -> None:
    for left in (0.001, 0.05, 0.3, 12.34, FORESEEN):
        (delay,) = snooze_delay(left)
        assert left < delay <= left + 2 * EPSILON
    assert snooze_delay(0.0) == snooze_delay(-5.0) == {0.0}


def test_one_that_snoozes_for_long_keeps_no_timer() -> None:
    assert snooze_delay(FORESEEN + 1) == set()
