"""The transition table of a module's registration: every message in every state."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from pgflow_starter.core.phases import phases_of
from pgflow_starter.core.state import ErrorClass, ModuleStatus, ModuleType
from pgflow_starter.modules import machine
from pgflow_starter.modules.machine import AttemptBegan, AttemptEnded, CancelPhase, Machine, RunPhase, Schedule, Step
from tests.modules.machine_rig import (
    BACKOFF,
    BY_TOKEN,
    FIRST,
    MESSAGES,
    NOW,
    ORDERS,
    REGISTRY,
    WORKER,
    error,
    fail,
)


def after(*messages: str) -> Machine:
    m = FIRST
    for message in messages:
        m, _ = MESSAGES[message](m)
    return m


STATES = {
    "pending": after(),
    "first": after("retry"),
    "last": after("retry", "done"),
    "last, again": after("retry", "done", "retry"),
    "last, revived": after("retry", "done", "back"),
    "waiting": after("retry", "transient"),
    "waiting, revived": after("retry", "back", "transient"),
    "hung": after("retry", "overdue"),
    "hung, due": after("retry", "overdue", "timer"),
    "succeeded": after("retry", "done", "done"),
    "failed": after("retry", "permanent"),
    "succeeded, first": after("retry", "done", "done", "retry"),
    "succeeded, last": after("retry", "done", "done", "retry", "done"),
    "failed, first": after("retry", "permanent", "retry"),
    "rewiring": after("retry", "done", "done", "lost"),
    "rewiring, waits": after("retry", "done", "done", "lost", "permanent"),
    "lost meanwhile": after("retry", "done", "done", "retry", "lost"),
    "troubled": after("retry", "done", "done", "troubled"),
    "troubled, first": after("retry", "done", "done", "troubled", "retry"),
}

# What becomes of it:
#   .  nothing            A  an attempt begins          W  one begins with the worker phase
#   +  one more is noted  *  the revival is noted       N  the next phase runs
#   S  succeeded          R  retrying, after a delay    0  retrying, without delay     P  failed for good
#   SA, RA, PA            the result, and another attempt at once
#   H  overdue: cancelled, retrying after a delay, its thread still awaited     HW, H0  the next is due already, at once
#   E  failed for good, and no attempt was made      T  retrying, and no attempt was made    G  it is over
#   X  the next attempt is due, and waits for the thread    F  the thread has ended, the timer is awaited
TABLE = """
                  retry timer done transient permanent overdue back lost retired troubled over
pending           A     .     .    .         .         .       .    .      .      .        .
first             +     .     N    R         P         H       *    +      .      .        .
last              +     .     S    R         P         H       *    +      .      .        .
last, again       .     .     SA   RA        PA        HW      *    .      .      .        .
last, revived     +     .     S    0         P         H0      .    +      .      .        .
waiting           A     A     .    .         .         .       A    .      .      .        .
waiting, revived  A     A     .    .         .         .       A    .      .      .        .
hung              X     X     F    F         F         .       X    .      .      .        .
hung, due         .     .     A    A         A         .       .    .      .      .        .
succeeded         A     .     .    .         .         .       .    W      E      T        .
failed            A     .     .    .         .         .       .    .      .      .        .
succeeded, first  +     .     N    R         P         H       *    +      .      .        .
succeeded, last   +     .     S    R         P         H       *    +      .      .        .
failed, first     +     .     N    R         P         H       *    +      .      .        .
rewiring          +     .     S    R         R         H       *    +      .      .        .
rewiring, waits   A     A     .    .         .         .       A    .      .      .        .
lost meanwhile    .     .     N    RA        RA        HW      *    .      .      .        .
troubled          A     .     .    .         .         .       .    W    E       .        G
troubled, first   +     .     N    R         R         H       *    +    .       .        .
"""


def cells() -> list[tuple[str, str, str]]:
    heading, *rows = TABLE.strip("\n").splitlines()
    messages = heading.split()
    return [
        (row[:18].strip(), message, code)
        for row in rows
        for message, code in zip(messages, row[18:].split(), strict=True)
    ]


def seen(before: Machine, step: Step) -> str:
    """The code of what happened, each with the facts that must go with it."""
    m, effects = step
    kinds = [type(effect) for effect in effects]
    code = ""
    if CancelPhase in kinds:
        assert kinds == [CancelPhase, AttemptEnded, Schedule]
        code = "H"
    ended = next((e for e in effects if isinstance(e, AttemptEnded)), None)
    if ended is not None:
        code += "" if code else {"succeeded": "S", "retrying": "R", "failed_permanent": "P"}[ended.state.status]
        assert ended.state.phase is None
        assert (ended.state.last_error is None) is (code == "S")
    schedule = next((e for e in effects if isinstance(e, Schedule)), None)
    if schedule is not None:
        assert ended is not None
        assert (ended.delay, schedule.token) == (schedule.delay, m.token)
        assert ended.state.next_attempt_at == NOW + timedelta(seconds=schedule.delay)
        code = code if schedule.delay else code.replace("R", "") + "0"
    if AttemptBegan in kinds:
        assert kinds[-2:] == [AttemptBegan, RunPhase]
        assert effects[-2:] == (AttemptBegan(m.state), RunPhase(m.state.phase or REGISTRY, m.token))
        assert (m.state.attempts, m.token) == (before.state.attempts + 1, before.token + 1)
        assert m.busy
        assert not any((m.another_asked, m.awaits_thread, m.outage_over, m.state.next_attempt_at))
        code += "A" if m.state.phase is REGISTRY else "W"
    elif RunPhase in kinds:
        assert effects == (RunPhase(WORKER, before.token),)
        code = "N"
    if not effects and m != before:
        changes = {"another_asked": "+", "outage_over": "*", "awaits_thread": "X", "busy": "F"}
        code = "".join(c for name, c in changes.items() if getattr(m, name) != getattr(before, name))
        if before.state.status is not m.state.status is ModuleStatus.FAILED_PERMANENT:
            code = "E"
        if before.troubled is not m.troubled and code != "E":
            code = "T" if m.troubled else "G"
            assert m.state.status is (ModuleStatus.RETRYING if m.troubled else ModuleStatus.SUCCEEDED)
            assert m.state.phase is (WORKER if m.troubled else None)
    if code in {"H", "X", "R", "0", "H0"}:
        assert m.state.status is ModuleStatus.RETRYING
    return ("HW" if code == "H" and m.awaits_thread else code) or "."


@pytest.mark.parametrize(("state", "message", "code"), cells())
def test_a_message_in_a_state_has_this_effect(state: str, message: str, code: str) -> None:
    before = STATES[state]
    assert seen(before, MESSAGES[message](before)) == code


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("message", BY_TOKEN)
@pytest.mark.parametrize("age", [-1, 1, 10**6])
def test_a_stale_token_changes_nothing(state: str, message: str, age: int) -> None:
    before = STATES[state]
    assert BY_TOKEN[message](before, before.token + age) == (before, ())


def test_under_notify_the_four_phases_follow_each_other() -> None:
    m, ran = FIRST._replace(phases=phases_of("notify")), []
    m, _ = machine.begin(m, NOW)
    while m.state.phase is not None:
        ran.append(m.state.phase)
        m, _ = machine.phase_done(m, m.token, None, NOW)
    assert ran == ["registry", "worker", "notify_db", "notify_register"]
    assert (m.state.status, m.state.attempts) == ("succeeded", 1)


def test_slug_and_type_are_learned_from_a_phase_and_kept_when_others_do_not_know_them() -> None:
    m, _ = machine.phase_done(STATES["first"], 1, ORDERS, NOW)
    m, _ = machine.phase_done(m, 1, None, NOW)
    m, _ = machine.begin(m, NOW)
    failed = fail(m, m.token, ErrorClass.PERMANENT)[0]
    assert [(s.slug, s.type) for s in (m.state, failed.state)] == [("orders", ModuleType.JOB)] * 2


def test_delays_grow_with_each_failure_in_a_row_and_start_anew_after_a_success() -> None:
    m, delays = FIRST, []
    for outcome in ("transient", "transient", "overdue", "transient", "done", "transient"):
        m, _ = machine.begin(m, NOW)
        m, effects = MESSAGES[outcome](m)
        m, _ = MESSAGES["done"](m)  # the thread of the one overdue, or the second phase
        delays += [e.delay for e in effects if isinstance(e, Schedule)]
    assert delays == [1, 2, 4, 8, 1]


def test_a_module_that_succeeded_keeps_its_status_until_the_result_of_the_attempt_it_was_asked_for() -> None:
    for state in ("succeeded, first", "succeeded, last"):
        assert (STATES[state].state.status, STATES[state].state.attempts) == ("succeeded", 2)
    assert after("retry", "done", "done", "retry", "transient").state.status == "retrying"
    assert after("retry", "done", "done", "retry", "permanent").state.status == "failed_permanent"


def test_any_number_of_calls_to_retry_become_one_more_attempt() -> None:
    m = after("retry", *["retry"] * 1000, "done", "done")
    assert (m.state.attempts, m.another_asked) == (2, False)
    assert after("retry", *["retry"] * 1000, "transient", *["retry"] * 1000).state.attempts == 2


def test_a_lost_worker_is_wired_again_and_a_failure_of_that_starts_from_the_beginning() -> None:
    m = after("retry", "done", "done", "lost")
    assert (m.state.status, m.state.phase, m.state.attempts) == ("retrying", "worker", 2)
    assert m.state.last_error is not None
    assert m.state.last_error.reason == "died"
    m, _ = MESSAGES["transient"](m)
    m, _ = MESSAGES["timer"](m)
    assert m.state.phase == "registry"


def test_until_the_lost_worker_is_wired_again_no_failure_is_permanent() -> None:
    m = after("retry", "done", "done", "lost", "permanent", "timer", "permanent")
    assert m.state.last_error is not None
    assert (m.state.status, m.state.last_error.error_class) == ("retrying", "transient")
    for message in ("timer", "done", "done", "retry", "permanent"):
        m, _ = MESSAGES[message](m)
    assert m.state.status == "failed_permanent"  # what somebody asked for has its own result


def test_the_state_says_that_the_next_attempt_waits_for_a_hung_phase() -> None:
    for m in (STATES["hung, due"], after("retry", "overdue", "retry"), after("retry", "retry", "overdue")):
        assert m.state.last_error is not None
        assert m.state.last_error.reason == "late; the next attempt begins when it has ended"
        assert (m.state.next_attempt_at, m.state.attempts) == (None, 1)
    hung = STATES["hung"].state
    assert hung.last_error is not None
    assert (hung.last_error.reason, hung.next_attempt_at) == ("late", NOW + timedelta(seconds=1))


def test_the_state_of_a_troubled_module_says_why_and_since_when_and_takes_no_attempt() -> None:
    state = STATES["troubled"].state
    assert (state.status, state.phase, state.attempts, state.last_error) == (
        "retrying",
        "worker",
        1,
        error(reason="stuck"),
    )
    changed, _ = machine.troubled(STATES["troubled"], error(reason="stuck still"), NOW)
    assert changed.state.last_error == error(reason="stuck still")
    assert after("retry", "done", "done", "troubled", "over").state.last_error is None


@pytest.mark.parametrize("first", ["transient", "lost"])
def test_a_module_fails_since_the_first_failure_that_no_success_came_after(first: str) -> None:
    later = NOW + timedelta(minutes=1)
    m = after("retry", "transient") if first == "transient" else after("retry", "done", "done", "lost")
    again, _ = machine.begin(m, later)
    failed, _ = machine.phase_failed(again, again.token, replace(error(), at=later), BACKOFF, 0.5, later)
    assert failed.state.last_error == replace(error(), at=later)
    assert failed.state.failing_since == NOW


def test_a_module_that_succeeded_fails_since_nothing() -> None:
    for state in ("succeeded", "pending"):
        assert STATES[state].state.failing_since is None
    over, _ = machine.untroubled(STATES["troubled"], NOW)
    assert (STATES["troubled"].state.failing_since, over.state.failing_since) == (NOW, None)
