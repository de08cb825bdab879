"""`RunLooks`: a run as it is seen from time to time, and whether anybody is there to work on it."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from pgflow_starter.errors import DatabaseError, RunNotFoundError
from pgflow_starter.postgres.client.details import RunDetails
from pgflow_starter.postgres.client.run import Run
from pgflow_starter.starter.client import PgflowClient


@dataclass(frozen=True, slots=True)
class RunSeen:
    """A run at one moment. `workers`: how many of its flow live; None once it has ended, or where none may ask."""

    details: RunDetails[Run]
    workers: int | None

    @property
    def alone(self) -> bool:
        """Whether it goes on, and nobody lives who would work on it."""
        return self.workers == 0


class RunLooks:
    """Of one run. For one thread at a time."""

    def __init__(self, client: PgflowClient, run_id: UUID, *, payloads: bool = False) -> None:
        self._client = client
        self._run_id = run_id
        self._payloads = payloads
        self._there = False

    def look(self) -> RunSeen:
        """The run as it is now. Blocks on I/O. Raises RunNotFoundError, PgflowError."""
        try:
            details = self._client.details(self._run_id, payloads=self._payloads)
        except RunNotFoundError:
            if self._there:
                raise RunNotFoundError(f"run {self._run_id} was deleted while it was watched") from None
            raise
        self._there = True
        return RunSeen(details, None if details.run.finished else self._workers(details.run.flow_slug))

    def _workers(self, slug: str) -> int | None:
        try:
            return self._client.workers_alive(slug)
        except DatabaseError as error:
            if error.connection_lost:
                raise
            return None
