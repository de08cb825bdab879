"""What the web asks of a starter, as protocols."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from pgflow_starter.core.definition import FlowDefinition
from pgflow_starter.core.runs import RunSummary
from pgflow_starter.core.state import ChildInfo, StarterStatus, WorkerState


class Runs(Protocol):
    """A client that knows the runs in the database."""

    def recent_runs(self, limit: int = ..., *, patience: float = ...) -> Sequence[RunSummary]:
        """The runs that began last; blocks on I/O for about twice `patience` seconds. Raises PgflowError."""


class Source(Protocol):
    """A starter. No call but `recent_runs` waits; each raises PgflowError when the starter has ended. Thread-safe."""

    @property
    def client(self) -> Runs: ...

    def status(self) -> StarterStatus:
        """All modules now."""

    def workers(self) -> tuple[WorkerState, ...]:
        """The workers of this process."""

    def which_children(self) -> tuple[ChildInfo, ...]:
        """The supervision tree, parents before children."""

    def definitions(self) -> tuple[FlowDefinition, ...]:
        """The definitions of the registered modules."""
