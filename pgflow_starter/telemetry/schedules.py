"""`OtelSchedules`: how late the ticks of schedules are started, told to OpenTelemetry."""

from __future__ import annotations

from pgflow_starter.telemetry import names
from pgflow_starter.telemetry.providers import Providers


class OtelSchedules:
    """`ports.ScheduleObserver`. Thread-safe; what a provider raises is logged and goes no further."""

    def __init__(self, providers: Providers) -> None:
        self._providers = providers

    def tick_started(self, name: str, late: float) -> None:
        """Measured."""
        if self._providers.metrics:
            with self._providers.guard:
                if self._providers.instruments is not None:
                    self._providers.instruments.lateness.record(late, {names.SCHEDULE_NAME: name})
