"""What the web asks of a starter, as protocols."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

from pgflow_starter.core.definition import FlowDefinition
from pgflow_starter.core.state import ChildInfo, StarterStatus, WorkerState


class StepLike(Protocol):
    """Where one step of a run stands."""

    @property
    def slug(self) -> str: ...
    @property
    def status(self) -> str: ...
    @property
    def tasks(self) -> int | None: ...
    @property
    def remaining(self) -> int | None: ...


class RunLike(Protocol):
    """Where a run stands, without what it carries."""

    @property
    def id(self) -> UUID: ...
    @property
    def flow_slug(self) -> str: ...
    @property
    def status(self) -> str: ...
    @property
    def started_at(self) -> datetime | None: ...
    @property
    def ended_at(self) -> datetime | None: ...
    @property
    def steps(self) -> Sequence[StepLike]: ...
    @property
    def notes(self) -> Sequence[str]: ...


class Runs(Protocol):
    """Who knows the runs in the database."""

    def recent_runs(self, limit: int = ..., *, patience: float = ...) -> Sequence[RunLike]:
        """The runs that began last; blocks on I/O for about twice `patience` seconds. Raises PgflowError."""


class Source(Protocol):
    """A starter. No call but `recent_runs` waits; each raises PgflowError when the starter has ended. Thread-safe."""

    @property
    def client(self) -> Runs: ...

    def status(self) -> StarterStatus:
        """All modules now."""

    def ready(self) -> bool:
        """Whether every module is terminal."""

    def healthy(self) -> bool:
        """Whether a module succeeded."""

    def workers(self) -> tuple[WorkerState, ...]:
        """The workers of this process."""

    def which_children(self) -> tuple[ChildInfo, ...]:
        """The supervision tree, parents before children."""

    def definitions(self) -> tuple[FlowDefinition, ...]:
        """The definitions of the registered modules."""
