"""Random calls from many threads against random crashes: all are answered, and the tree stays true to itself."""

from __future__ import annotations

import pytest

from pgflow_starter.supervision import DynamicSupervisorActor, Strategy, SupervisorActor
from tests.supervision.storm import Storm

CALLERS = 20
CALLS = 30
SECONDS = 1.5


@pytest.mark.parametrize(
    ("cls", "strategy"),
    [
        (SupervisorActor, Strategy.ONE_FOR_ONE),
        (SupervisorActor, Strategy.REST_FOR_ONE),
        (SupervisorActor, Strategy.ONE_FOR_ALL),
        (DynamicSupervisorActor, Strategy.ONE_FOR_ONE),
    ],
)
def test_a_storm_leaves_no_call_unanswered_and_no_child_astray(cls: type[SupervisorActor], strategy: Strategy) -> None:
    storm = Storm(cls, strategy, seed=20261122)
    try:
        storm.rage(CALLERS, CALLS, SECONDS)
        listed, counts = storm.children()
        alive = sorted(child_id for child_id, runs in listed.items() if runs)
        assert (counts["specs"], counts["active"]) == (len(listed), len(alive))
        for child_id in alive:
            assert storm.call("child", child_id).ask("hello", timeout=10) == "hello"
        storm.over.set()  # the abandoned come back, and end
        assert storm.await_running(alive) == alive
        assert storm.faults == []
    finally:
        storm.stop()
    assert storm.running() == []
    assert storm.link.reason is None
