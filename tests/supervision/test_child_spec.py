"""What a child spec and a supervisor's flags may be, and what is said of those that may not."""

from __future__ import annotations

import math
import threading
from typing import Any

import pytest

from pgflow_starter.supervision import (
    ChildSpec,
    ChildType,
    DynamicSupervisorActor,
    Restart,
    Strategy,
    SupervisorActor,
    SupervisorFlags,
)
from pgflow_starter.supervision.specs import check_children, restarted_with
from pgflow_starter.testing import ManualClock


def start() -> None:
    """Never called here."""


def test_a_spec_of_id_and_start_alone_is_a_permanent_worker_with_five_seconds() -> None:
    spec = ChildSpec("a", start)
    assert (spec.restart, spec.type, spec.shutdown) == (Restart.PERMANENT, ChildType.WORKER, 5.0)


def test_a_supervisor_gets_all_the_time_it_needs_by_default() -> None:
    assert ChildSpec("a", start, type=ChildType.SUPERVISOR).shutdown == math.inf


def test_a_supervisor_may_be_given_less_time() -> None:
    assert ChildSpec("a", start, type=ChildType.SUPERVISOR, shutdown=2).shutdown == 2


@pytest.mark.parametrize("restart", ["permanent", "transient", "temporary"])
def test_restart_may_be_given_as_a_word(restart: Any) -> None:
    assert ChildSpec("a", start, restart).restart is Restart(restart)


@pytest.mark.parametrize("shutdown", [0, 0.5, 7, math.inf, threading.TIMEOUT_MAX * 2])
def test_shutdown_may_be_any_time_from_none_to_for_ever(shutdown: float) -> None:
    assert ChildSpec("a", start, shutdown=shutdown).shutdown == shutdown


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"id": ""}, "id must be a non-empty string"),
        ({"id": 7}, "id must be a non-empty string"),
        ({"start": "start"}, "start must be callable, got 'start'"),
        ({"restart": "always"}, "restart must be one of"),
        ({"restart": None}, "restart must be one of"),
        ({"type": "manager"}, "type must be one of"),
        ({"shutdown": -1}, "shutdown must be seconds from 0 to infinity, got -1"),
        ({"shutdown": math.nan}, "shutdown must be seconds from 0 to infinity, got nan"),
        ({"shutdown": True}, "shutdown must be seconds from 0 to infinity, got True"),
        ({"shutdown": "infinity"}, "shutdown must be seconds from 0 to infinity, got 'infinity'"),
    ],
)
def test_a_bad_value_is_refused_and_named(change: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match="child spec") as refused:
        ChildSpec(**{"id": "a", "start": start, **change})
    assert told in str(refused.value)


def test_every_bad_value_of_a_spec_is_named_at_once() -> None:
    bad: dict[str, Any] = {"id": "", "start": None, "restart": "ever", "shutdown": -1, "type": "boss"}
    with pytest.raises(ValueError, match="child spec") as refused:
        ChildSpec(**bad)
    assert all(word in str(refused.value) for word in ("id must", "start must", "restart must", "type must", "shutdow"))


def test_the_flags_of_elixir_are_the_defaults() -> None:
    assert SupervisorFlags() == SupervisorFlags(Strategy.ONE_FOR_ONE, max_restarts=3, max_seconds=5.0)


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ({"strategy": "all_for_one"}, "strategy must be one of"),
        ({"max_restarts": -1}, "max_restarts must be an int of at least 0, got -1"),
        ({"max_restarts": 1.5}, "max_restarts must be an int of at least 0, got 1.5"),
        ({"max_restarts": True}, "max_restarts must be an int of at least 0, got True"),
        ({"max_seconds": 0}, "max_seconds must be a number above 0, got 0"),
        ({"max_seconds": math.nan}, "max_seconds must be a number above 0, got nan"),
        ({"max_seconds": "5"}, "max_seconds must be a number above 0, got '5'"),
    ],
)
def test_bad_flags_are_refused(flags: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match="must be") as refused:
        SupervisorFlags(**flags)
    assert told in str(refused.value)


def test_a_supervisor_refuses_two_children_with_one_id() -> None:
    with pytest.raises(ValueError, match="child id 'a' occurs twice"):
        SupervisorActor.start("top", [ChildSpec("a", start), ChildSpec("a", start)], clock=ManualClock())


def test_a_supervisor_refuses_what_is_no_child_spec() -> None:
    with pytest.raises(TypeError, match="children must be ChildSpec objects, got 'a'"):
        SupervisorActor.start("top", ["a"], clock=ManualClock())


@pytest.mark.parametrize("strategy", [Strategy.ONE_FOR_ALL, Strategy.REST_FOR_ONE])
def test_a_dynamic_supervisor_knows_one_strategy_only(strategy: Strategy) -> None:
    with pytest.raises(ValueError, match="strategy must be one_for_one"):
        DynamicSupervisorActor.start("top", (), clock=ManualClock(), flags=SupervisorFlags(strategy))


def test_ids_that_occur_once_pass() -> None:
    specs = [ChildSpec("a", start), ChildSpec("b", start)]
    assert check_children(iter(specs)) == tuple(specs)


@pytest.mark.parametrize(
    ("strategy", "failed", "restarted"),
    [
        (Strategy.ONE_FOR_ONE, "b", "b"),
        (Strategy.ONE_FOR_ALL, "b", "abc"),
        (Strategy.REST_FOR_ONE, "a", "abc"),
        (Strategy.REST_FOR_ONE, "b", "bc"),
        (Strategy.REST_FOR_ONE, "c", "c"),
    ],
)
def test_who_is_restarted_with_whom(strategy: Strategy, failed: str, restarted: str) -> None:
    assert restarted_with(strategy, ["a", "b", "c"], failed) == list(restarted)


@pytest.mark.parametrize(
    ("restart", "abnormal", "again"),
    [
        (Restart.PERMANENT, False, True),
        (Restart.PERMANENT, True, True),
        (Restart.TRANSIENT, False, False),
        (Restart.TRANSIENT, True, True),
        (Restart.TEMPORARY, False, False),
        (Restart.TEMPORARY, True, False),
    ],
)
def test_which_ends_lead_to_a_restart(restart: Restart, abnormal: bool, again: bool) -> None:
    assert restart.follows(abnormal=abnormal) is again
