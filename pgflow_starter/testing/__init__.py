"""For tests of what is built on this package: flows without a database, and time that moves only when told to.

run = run_flow(order, {"order_id": 7})
assert run.raise_for_status().result == {"charged": 42}
assert charge({"validate": {"amount": 42}}, make_context()) == {"charged": 42}

And a real PostgreSQL where one is wanted, `EmbeddedPostgres` and `install`, which are loaded when they are asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pgflow_starter.testing.context import make_context
from pgflow_starter.testing.manual import START, ManualClock, ManualTimer, ManualTimers
from pgflow_starter.testing.result import FlowRun, StepRun, TaskRun
from pgflow_starter.testing.runner import run_flow

if TYPE_CHECKING:
    from pgflow_starter.postgres.embedded.server import EmbeddedPostgres
    from pgflow_starter.postgres.setup.install import install

__all__ = [
    "START",
    "EmbeddedPostgres",
    "FlowRun",
    "ManualClock",
    "ManualTimer",
    "ManualTimers",
    "StepRun",
    "TaskRun",
    "install",
    "make_context",
    "run_flow",
]


if not TYPE_CHECKING:  # a type checker knows the names that there are

    def __getattr__(name: str) -> Any:
        home = {"EmbeddedPostgres": "embedded.server", "install": "setup.install"}.get(name)
        if home is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"pgflow_starter.postgres.{home}"), name)
