"""pgflow_starter: supervised registration and workers for pgflow flows and jobs, on threads and PostgreSQL.

starter = pgflow_starter.start(conninfo, flows=[order], jobs=[send_email], signal_strategy="notify")
starter.await_ready(timeout=30)
...
starter.stop()
"""

from pgflow_starter.actors.module import ModuleActor
from pgflow_starter.actors.starter import StarterActor
from pgflow_starter.actors.supervisor import SupervisorActor
from pgflow_starter.app import Starter, StarterProxy, start
from pgflow_starter.core.backoff import Backoff
from pgflow_starter.core.definition import FlowDefinition, StepDefinition, StepKind
from pgflow_starter.core.flow import Flow, Job, job
from pgflow_starter.core.state import (
    ChildInfo,
    ErrorClass,
    ModuleError,
    ModuleState,
    ModuleStatus,
    ModuleType,
    Outage,
    Phase,
    SignalStrategy,
    StarterStatus,
)
from pgflow_starter.errors import (
    DatabaseError,
    DefinitionError,
    ForkedError,
    MissingExtraError,
    NotInstalledError,
    NotReadyError,
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
from pgflow_starter.postgres.client import PgflowClient
from pgflow_starter.postgres.run import Run
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
    "MissingExtraError",
    "ModuleActor",
    "ModuleError",
    "ModuleState",
    "ModuleStatus",
    "ModuleType",
    "NotInstalledError",
    "NotReadyError",
    "Outage",
    "PermanentError",
    "PgflowClient",
    "PgflowError",
    "Phase",
    "PhaseTimeoutError",
    "Run",
    "RunNotFoundError",
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
    "SupervisorActor",
    "TaskContext",
    "TransientError",
    "UnknownFlowError",
    "job",
    "start",
]
