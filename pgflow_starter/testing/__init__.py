"""For tests of what is built on this package: flows without a database, and time that moves only when told to.

run = run_flow(order, {"order_id": 7})
assert run.raise_for_status().result == {"charged": 42}
assert charge({"validate": {"amount": 42}}, make_context()) == {"charged": 42}
"""

from pgflow_starter.testing.context import make_context
from pgflow_starter.testing.manual import START, ManualClock, ManualTimer, ManualTimers
from pgflow_starter.testing.result import FlowRun, StepRun, TaskRun
from pgflow_starter.testing.runner import run_flow

__all__ = [
    "START",
    "FlowRun",
    "ManualClock",
    "ManualTimer",
    "ManualTimers",
    "StepRun",
    "TaskRun",
    "make_context",
    "run_flow",
]
