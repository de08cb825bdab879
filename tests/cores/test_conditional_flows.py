"""A flow with conditions comes out by `run_flow` as on a core that has them."""

from __future__ import annotations

from tests.cores.conditional_flows import Drawn, on_the_core

FLOWS = 100


def test_random_flows_with_conditions_end_as_on_the_core(newer_database: str) -> None:
    flows = [Drawn(seed) for seed in range(FLOWS)]
    ours = [drawn.without_database() for drawn in flows]
    theirs = on_the_core(newer_database, flows)
    different = [
        (drawn.slug, mine, other) for drawn, mine, other in zip(flows, ours, theirs, strict=True) if mine != other
    ]
    assert different == []
    steps = [step for run in ours for step in run.steps]
    assert {run.status for run in ours} == {"completed", "failed"}
    assert {reason for _, _, reason, _ in steps} == {None, "condition_unmet", "handler_failed", "dependency_skipped"}
