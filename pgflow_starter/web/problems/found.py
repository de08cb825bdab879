"""What is wrong, the worst first, each with what to do: decided from what was seen, by nothing else."""

from __future__ import annotations

from pgflow_starter.web.problems.of_database import failures, retries, slow, stuck
from pgflow_starter.web.problems.of_process import database, lost, modules, schedules, troubles, unseen
from pgflow_starter.web.problems.problem import Problem, Seen

MOST = 50
"""Problems that are told."""


def problems(seen: Seen) -> tuple[Problem, ...]:
    """The worst first: those that stop more before those that stop less, and of one kind the one that lasts longest."""
    found = [
        *database(seen),
        *modules(seen),
        *troubles(seen.workers),
        *lost(seen),
        *unseen(seen),
        *failures(seen),
        *stuck(seen),
        *schedules(seen),
        *retries(seen.failing.retries),
        *slow(seen.failing),
    ]
    found.sort(key=lambda problem: problem.severity != "bad")  # stable: the order above within a severity
    return tuple(found[:MOST])
