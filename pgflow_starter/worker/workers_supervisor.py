"""`WorkersSupervisorActor`: the supervisor of all workers, which says in the database that they have stopped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pgflow_starter.supervision.children import Child
from pgflow_starter.supervision.supervisor import DynamicSupervisorActor
from pgflow_starter.worker.workers import SUPERVISOR_ID, Workers


class WorkersSupervisorActor(DynamicSupervisorActor):
    """Of those that it has ended together it says so together: a worker with nothing to do needs no thread to stop."""

    def __init__(self, workers: Workers, **kwargs: Any) -> None:
        super().__init__(SUPERVISOR_ID, workers.specs, **kwargs)
        self._workers = workers

    def _terminate(self, children: Sequence[Child]) -> None:
        super()._terminate(children)
        if children:
            self._workers.say_stopped()
