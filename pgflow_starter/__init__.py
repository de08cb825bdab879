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
    from pgflow_starter.core.context import TaskContext
    from pgflow_starter.core.definition import FlowDefinition, StepDefinition, StepKind
    from pgflow_starter.core.flow import Flow, Job, job
    from pgflow_starter.core.keys import run_id_of
    from pgflow_starter.core.modules import FlowModule
    from pgflow_starter.core.phases import Phase, SignalStrategy
    from pgflow_starter.core.retention import Retention
    from pgflow_starter.core.run_summary import RunSummary, StepSummary
    from pgflow_starter.core.schedule import CatchUp, Schedule
    from pgflow_starter.core.snooze import Snooze
    from pgflow_starter.core.state import (
        ChildInfo,
        ErrorClass,
        FastLaneState,
        MissedTicks,
        ModuleError,
        ModuleState,
        ModuleStatus,
        ModuleType,
        Outage,
        ScheduleResult,
        ScheduleState,
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
        PayloadError,
        PermanentError,
        PgflowError,
        PhaseTimeoutError,
        RunFailedError,
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
    from pgflow_starter.postgres.client.aio import AioClient
    from pgflow_starter.postgres.client.aio_run import AioRun
    from pgflow_starter.postgres.client.details import RunDetails, TaskRun
    from pgflow_starter.postgres.client.run import Run
    from pgflow_starter.postgres.client.steps import StepRun
    from pgflow_starter.starter.child import child_spec, starter_of
    from pgflow_starter.starter.client import PgflowClient
    from pgflow_starter.starter.handle import Starter
    from pgflow_starter.starter.proxy import StarterProxy
    from pgflow_starter.starter.settings import StartSettings
    from pgflow_starter.starter.start import start
    from pgflow_starter.starter.starter_actor import StarterActor
    from pgflow_starter.supervision.supervisor import SupervisorActor
    from pgflow_starter.telemetry.json_formatter import JsonFormatter

__version__ = "0.1.0"

__all__ = [
    "AioClient",
    "AioRun",
    "Backoff",
    "CatchUp",
    "ChildInfo",
    "DatabaseError",
    "DefinitionError",
    "ErrorClass",
    "FastLaneState",
    "Flow",
    "FlowDefinition",
    "FlowModule",
    "ForkedError",
    "Job",
    "JsonFormatter",
    "MissedTicks",
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
    "PayloadError",
    "PermanentError",
    "PgflowClient",
    "PgflowError",
    "Phase",
    "PhaseTimeoutError",
    "Retention",
    "Run",
    "RunDetails",
    "RunFailedError",
    "RunNotFoundError",
    "RunSummary",
    "Schedule",
    "ScheduleResult",
    "ScheduleState",
    "SetupError",
    "ShapeMismatchError",
    "SignalStrategy",
    "SlugTakenError",
    "Snooze",
    "StartSettings",
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
    "TaskRun",
    "TransientError",
    "Trouble",
    "TroubleKind",
    "TroubleScope",
    "UnknownFlowError",
    "WorkerState",
    "child_spec",
    "job",
    "run_id_of",
    "start",
    "starter_of",
]

# Where the names live: looked through in this order until a name is found, so that what only defines flows loads
# little, and what only starts runs no starter. The driver first of the larger ones: it imports a lot, and deep within
# our own imports that takes 10 ms more, for there the interpreter's stack grows with many a single call.
_BY_THEMSELVES = {
    "AioClient": "postgres.client.aio",
    "AioRun": "postgres.client.aio_run",
    "CatchUp": "core.schedule",
    "FlowModule": "core.modules",
    "JsonFormatter": "telemetry.json_formatter",
    "PgflowClient": "starter.client",
    "Retention": "core.retention",
    "Run": "postgres.client.run",
    "RunDetails": "postgres.client.details",
    "RunSummary": "core.run_summary",
    "Schedule": "core.schedule",
    "Snooze": "core.snooze",
    "StartSettings": "starter.settings",
    "StepRun": "postgres.client.steps",
    "StepSummary": "core.run_summary",
    "TaskRun": "postgres.client.details",
    "run_id_of": "core.keys",
}
_HOMES = (
    "errors",
    "core.flow",
    "core.context",
    "core.definition",
    "core.phases",
    "core.state",
    "core.trouble",
    "core.backoff",
    "postgres.connections.connection",
    "starter.start",
    "starter.handle",
    "starter.proxy",
    "starter.child",
    "starter.starter_actor",
    "modules.module_actor",
    "supervision.supervisor",
)


if not TYPE_CHECKING:  # a type checker knows the names that there are

    def __getattr__(name: str) -> Any:
        if name not in __all__:
            msg = f"module {__name__!r} has no attribute {name!r}"
            raise AttributeError(msg)
        candidates = [_BY_THEMSELVES[name]] if name in _BY_THEMSELVES else _HOMES
        homes = (import_module(f"{__name__}.{home}") for home in candidates)
        value = globals()[name] = next(getattr(home, name) for home in homes if hasattr(home, name))
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
