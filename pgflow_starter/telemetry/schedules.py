"""`OtelSchedules`: how late the ticks of schedules are started, and which were missed, told to OpenTelemetry."""

from __future__ import annotations

from pgflow_starter.clock import Clock
from pgflow_starter.core.state import MissedTicks
from pgflow_starter.telemetry import events, names
from pgflow_starter.telemetry.events import nanoseconds
from pgflow_starter.telemetry.providers import Providers


class OtelSchedules:
    """`ports.ScheduleObserver`. Thread-safe; what a provider raises is logged and goes no further."""

    def __init__(self, providers: Providers, clock: Clock) -> None:
        self._providers = providers
        self._clock = clock

    def tick_started(self, name: str, late: float) -> None:
        """Measured."""
        if self._providers.metrics:
            with self._providers.guard:
                if self._providers.instruments is not None:
                    self._providers.instruments.lateness.record(late, {names.SCHEDULE_NAME: name})

    def ticks_missed(self, name: str, missed: MissedTicks) -> None:
        """Told as a log record; the metric is read from the schedule's state."""
        if self._providers.logs:
            with self._providers.guard:
                self._providers.events.tell(
                    names.EVENT_TICKS_MISSED,
                    {names.SCHEDULE_NAME: name, names.SCHEDULE_TICKS: missed.count},
                    None,
                    at=nanoseconds(self._clock),
                    severity=events.WARN,
                    body=f"schedule {name}: {missed.count} missed, from {missed.first.isoformat()} to"
                    f" {missed.last.isoformat()}: {missed.reason}",
                )
