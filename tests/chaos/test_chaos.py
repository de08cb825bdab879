"""The short form of `make chaos`: always the same faults, in seconds."""

from __future__ import annotations

import pytest

from tests.chaos.scenario import run
from tests.chaos.world import server

SEED = 922
"""For which no column changes its type within these seconds, and a process, a worker and the server are killed."""

STATUS_LIMIT_MS = 20.0
"""Beside the rest of the tests, on a machine of a few cores."""


@pytest.mark.parametrize(
    ("scenario", "seconds"), [("everything", 7.0), ("locks", 2.0), ("queues", 2.0), ("link", 2.0), ("schema", 2.5)]
)
def test_after_faults_under_load_every_run_is_completed_and_nothing_is_left(scenario: str, seconds: float) -> None:
    with server() as running:
        result = run(running, scenario, seconds, SEED, longest=0.7, quiet=0.3, status_limit_ms=STATUS_LIMIT_MS)
    assert result.passed, str(result.to_dict())  # as text it is shown whole
