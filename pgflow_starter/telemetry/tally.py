"""`OtelTally`: retries and ends of runs, counted by OpenTelemetry."""

from __future__ import annotations

from pgflow_starter.core.task import Task
from pgflow_starter.telemetry import names
from pgflow_starter.telemetry.providers import Providers


class OtelTally:
    """`ports.TallyObserver`. Thread-safe; what a provider raises is logged and goes no further."""

    def __init__(self, providers: Providers) -> None:
        self._providers = providers

    @property
    def heard(self) -> bool:
        """Whether there is somebody who takes metrics."""
        return bool(self._providers.metrics)

    def retried(self, task: Task) -> None:
        """Counted by queue and step."""
        with self._providers.guard:
            if self._providers.instruments is not None:
                where = {names.MESSAGING_DESTINATION: task.queue, names.STEP: task.step_slug}
                self._providers.instruments.retries.add(1, where)

    def runs_ended(self, flow_slug: str, status: str, count: int) -> None:
        """Counted by flow and status."""
        with self._providers.guard:
            if self._providers.instruments is not None:
                self._providers.instruments.runs.add(count, {names.FLOW: flow_slug, names.RUN_STATUS: status})
