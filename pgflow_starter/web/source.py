"""What the web asks of a starter, as protocols."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol
from uuid import UUID

from pgflow_starter.core.definition import FlowDefinition
from pgflow_starter.core.runs import RunStatus
from pgflow_starter.core.state import ChildInfo, ModuleState, StarterStatus, WorkerState
from pgflow_starter.core.views import DoneBefore, Failing, FlowQueue, RunsPage, RunsWanted, RunView, WorkerRow


class Views(Protocol):
    """Looks into the database.

    Each blocks on I/O: `patience` seconds for a connection, as long for each statement, and four times as long for all
    of them. Raises PgflowError.
    """

    def runs(self, wanted: RunsWanted, *, patience: float) -> RunsPage: ...

    def run(self, run_id: UUID, *, payloads: bool, patience: float) -> RunView | None: ...

    def queues(self, *, patience: float) -> Sequence[FlowQueue]: ...

    def done_before(
        self, queues: Sequence[str], *, every: int, slots: int, patience: float
    ) -> Sequence[DoneBefore]: ...

    def workers(self, *, patience: float) -> Sequence[WorkerRow]: ...

    def failing(self, *, patience: float) -> Failing: ...


class ChangedRun(Protocol):
    """A run that was just changed, or made."""

    @property
    def id(self) -> UUID: ...

    @property
    def status(self) -> RunStatus: ...


class Runs(Protocol):
    """Changes runs. Blocks on I/O, for 15 s at most; raises RunNotFoundError, PgflowError."""

    def cancel(self, run_id: UUID, reason: str) -> ChangedRun: ...

    def rerun(self, run_id: UUID) -> ChangedRun: ...


class Source(Protocol):
    """A starter. None of its own calls waits; each raises PgflowError when the starter has ended. Thread-safe."""

    @property
    def views(self) -> Views: ...

    @property
    def client(self) -> Runs: ...

    def module_status(self, module: str) -> ModuleState | None:
        """One module, None for an unknown one."""

    def retry_now(self, module: str) -> None:
        """Ask for an attempt at once."""

    def status(self) -> StarterStatus:
        """All modules now."""

    def workers(self) -> tuple[WorkerState, ...]:
        """The workers of this process."""

    def which_children(self) -> tuple[ChildInfo, ...]:
        """The supervision tree, parents before children."""

    def definitions(self) -> tuple[FlowDefinition, ...]:
        """The definitions of the registered modules."""
