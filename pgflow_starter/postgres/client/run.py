"""`Run`: one run of a flow, as a client saw it last."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

if TYPE_CHECKING:
    from pgflow_starter.postgres.client.client import Client
    from pgflow_starter.postgres.client.steps import StepRun

FINISHED = ("completed", "failed")


@dataclass(frozen=True, slots=True)
class Run:
    """One run. `status` is `started`, `completed` or `failed`; `output` maps each final step to its output.

    `error` is the message of the task that failed the run, or why the core failed it without one. Times are UTC; one
    that Python cannot express, infinity for one, is None, and `notes` tell of it.
    """

    id: UUID
    flow_slug: str
    status: str
    input: Any
    output: Any
    error: str | None
    started_at: datetime | None
    ended_at: datetime | None
    _client: Client = field(repr=False, compare=False)
    seen_at: float = field(default=0.0, repr=False, compare=False)
    """When that was, on the monotonic clock."""
    committed: bool = field(default=True, repr=False, compare=False)
    """Whether somebody else can see it: one that was started in the caller's own transaction is not yet known to be."""
    notes: tuple[str, ...] = ()

    @property
    def finished(self) -> bool:
        """Whether the run is completed or failed."""
        return self.status in FINISHED

    @property
    def result(self) -> Any:
        """The output of the one final step, where there is one; else `output`."""
        if isinstance(self.output, dict) and len(self.output) == 1:
            return next(iter(self.output.values()))
        return self.output

    def refresh(self) -> Run:
        """The run as it is now. Raises PgflowError."""
        return self._client.run(self.id)

    def steps(self) -> tuple[StepRun, ...]:
        """The run's steps as they are now, in the flow's order, with what they returned. Raises PgflowError."""
        return self._client.steps(self.id)

    def wait(self, timeout: float | None = None) -> Run:
        """The run once it is finished, completed or failed; polls from 20 ms up to 0.5 s.

        `timeout` in seconds, None: for ever; a database that is away meanwhile is waited out. Raises TimeoutError,
        RunNotFoundError when the run was deleted, PgflowError.
        """
        return self._client.wait(self, timeout)
