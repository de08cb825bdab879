"""pgflow_starter: supervised registration and workers for pgflow flows and jobs, on threads and PostgreSQL.

starter = pgflow_starter.start(conninfo, flows=[order], jobs=[send_email], signal_strategy="notify")
starter.await_ready(timeout=30)
...
starter.stop()
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pgflow_starter.core.backoff import Backoff
    from pgflow_starter.core.definition import FlowDefinition, StepDefinition, StepKind
    from pgflow_starter.core.flow import Flow, Job, job
    from pgflow_starter.core.phases import Phase, SignalStrategy
    from pgflow_starter.core.runs import RunSummary, StepSummary
    from pgflow_starter.core.state import (
        ChildInfo,
        ErrorClass,
        ModuleError,
        ModuleState,
        ModuleStatus,
        ModuleType,
        Outage,
        StarterStatus,
        WorkerState,
    )
    from pgflow_starter.core.trouble import Trouble, TroubleKind, TroubleScope
    from pgflow_starter.errors import (
        DatabaseError,
        DefinitionError,
        ForkedError,
        MissingExtraError,
        MissingRightsError,
        NotInstalledError,
        NotReadyError,
        OutcomeUnknownError,
        PermanentError,
        PgflowError,
        PhaseTimeoutError,
        RunNotFoundError,
        SetupError,
        ShapeMismatchError,
        SlugTakenError,
        StarterStopped,
        StarterTerminated,
        TransientError,
        UnknownFlowError,
    )
    from pgflow_starter.modules.module_actor import ModuleActor
    from pgflow_starter.postgres.client.run import Run
    from pgflow_starter.postgres.client.steps import StepRun
    from pgflow_starter.starter import Starter, StarterProxy, child_spec, start, starter_of
    from pgflow_starter.starter.client import PgflowClient
    from pgflow_starter.starter.starter_actor import StarterActor
    from pgflow_starter.supervision.supervisor import SupervisorActor
    from pgflow_starter.telemetry.json_formatter import JsonFormatter
    from pgflow_starter.worker.context import TaskContext

__version__ = "0.1.0"

__all__ = [
    "Backoff",
    "ChildInfo",
    "DatabaseError",
    "DefinitionError",
    "ErrorClass",
    "Flow",
    "FlowDefinition",
    "ForkedError",
    "Job",
    "JsonFormatter",
    "MissingExtraError",
    "MissingRightsError",
    "ModuleActor",
    "ModuleError",
    "ModuleState",
    "ModuleStatus",
    "ModuleType",
    "NotInstalledError",
    "NotReadyError",
    "Outage",
    "OutcomeUnknownError",
    "PermanentError",
    "PgflowClient",
    "PgflowError",
    "Phase",
    "PhaseTimeoutError",
    "Run",
    "RunNotFoundError",
    "RunSummary",
    "SetupError",
    "ShapeMismatchError",
    "SignalStrategy",
    "SlugTakenError",
    "Starter",
    "StarterActor",
    "StarterProxy",
    "StarterStatus",
    "StarterStopped",
    "StarterTerminated",
    "StepDefinition",
    "StepKind",
    "StepRun",
    "StepSummary",
    "SupervisorActor",
    "TaskContext",
    "TransientError",
    "Trouble",
    "TroubleKind",
    "TroubleScope",
    "UnknownFlowError",
    "WorkerState",
    "child_spec",
    "job",
    "start",
    "starter_of",
]

# Where the names live: imported when the first is asked for, so that pytest's plugin loads little. The driver first: it
# imports a lot, and deep within our own imports that takes 10 ms more, for there the interpreter's stack grows with
# many a single call. Then all of a starter, for `start` is to return at once.
_HOMES = (
    "postgres.connections.connection",
    "starter",
    "core.backoff",
    "core.definition",
    "core.flow",
    "core.phases",
    "core.runs",
    "core.state",
    "core.trouble",
    "errors",
    "modules.module_actor",
    "postgres.client.run",
    "postgres.client.steps",
    "starter.client",
    "starter.starter_actor",
    "supervision.supervisor",
    "telemetry.json_formatter",
    "worker.context",
)


if not TYPE_CHECKING:  # a type checker knows the names that there are

    def __getattr__(name: str) -> Any:
        if name not in __all__:
            msg = f"module {__name__!r} has no attribute {name!r}"
            raise AttributeError(msg)
        homes = [import_module(f"{__name__}.{home}") for home in _HOMES]
        value = globals()[name] = next(getattr(home, name) for home in homes if hasattr(home, name))
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
