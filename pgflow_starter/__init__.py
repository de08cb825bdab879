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
    from pgflow_starter.core.phases import Phase
    from pgflow_starter.core.signal_strategy import SignalStrategy
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
    from pgflow_starter.postgres.client.recent import RunSummary, StepSummary
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

# Where each name comes from: imported when the first of them is asked for, so that pytest's plugin loads little.
_HOMES = {
    "Backoff": "core.backoff",
    "ChildInfo": "core.state",
    "DatabaseError": "errors",
    "DefinitionError": "errors",
    "ErrorClass": "core.state",
    "Flow": "core.flow",
    "FlowDefinition": "core.definition",
    "ForkedError": "errors",
    "Job": "core.flow",
    "JsonFormatter": "telemetry.json_formatter",
    "MissingExtraError": "errors",
    "ModuleActor": "modules.module_actor",
    "ModuleError": "core.state",
    "ModuleState": "core.state",
    "ModuleStatus": "core.state",
    "ModuleType": "core.state",
    "MissingRightsError": "errors",
    "NotInstalledError": "errors",
    "NotReadyError": "errors",
    "OutcomeUnknownError": "errors",
    "Outage": "core.state",
    "PermanentError": "errors",
    "PgflowClient": "starter.client",
    "PgflowError": "errors",
    "Phase": "core.phases",
    "PhaseTimeoutError": "errors",
    "Run": "postgres.client.run",
    "RunSummary": "postgres.client.recent",
    "RunNotFoundError": "errors",
    "SetupError": "errors",
    "ShapeMismatchError": "errors",
    "SignalStrategy": "core.signal_strategy",
    "SlugTakenError": "errors",
    "Starter": "starter",
    "StarterActor": "starter.starter_actor",
    "StarterProxy": "starter",
    "StarterStatus": "core.state",
    "StarterStopped": "errors",
    "StarterTerminated": "errors",
    "StepDefinition": "core.definition",
    "StepKind": "core.definition",
    "StepRun": "postgres.client.steps",
    "StepSummary": "postgres.client.recent",
    "SupervisorActor": "supervision.supervisor",
    "TaskContext": "worker.context",
    "TransientError": "errors",
    "Trouble": "core.trouble",
    "TroubleKind": "core.trouble",
    "TroubleScope": "core.trouble",
    "UnknownFlowError": "errors",
    "WorkerState": "core.state",
    "child_spec": "starter",
    "job": "core.flow",
    "start": "starter",
    "starter_of": "starter",
}


if not TYPE_CHECKING:  # a type checker knows the names that there are

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            msg = f"module {__name__!r} has no attribute {name!r}"
            raise AttributeError(msg)
        # All of it with the first name, for `start` is to return at once. The driver first: it imports a lot, and deep
        # within our own imports that takes 10 ms more, for there the interpreter's stack grows with many a single call.
        for part in ("postgres.connections.connection", "starter"):
            import_module(f"{__name__}.{part}")
        value = globals()[name] = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
