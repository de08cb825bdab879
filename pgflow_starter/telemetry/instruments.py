"""`Instruments`: what is counted and measured when it happens."""

from __future__ import annotations

from functools import cache
from typing import Any

from opentelemetry import metrics
from opentelemetry.metrics import Histogram

from pgflow_starter.telemetry import names

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""The bounds that OpenTelemetry's conventions ask for where a message's processing is measured."""

LONG = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
"""For what waits for a database: an attempt may take `phase_timeout`, a start as long as an outage."""


class Instruments:
    """Thread-safe, as OpenTelemetry's are. Durations are seconds."""

    def __init__(self, meter_provider: Any) -> None:
        meter = metrics.get_meter(names.SCOPE, meter_provider=meter_provider)

        def seconds(name: str, description: str, bounds: tuple[float, ...]) -> Histogram:
            return meter.create_histogram(name, "s", description, explicit_bucket_boundaries_advisory=bounds)

        self.attempt = seconds(names.METRIC_ATTEMPT, "Duration of a module's attempt to register.", LONG)
        self.startup = seconds(names.METRIC_STARTUP, "From the start until every module was terminal.", LONG)
        self.process = seconds(names.METRIC_PROCESS, "Duration of processing a message.", SECONDS)
        self.lateness = seconds(names.METRIC_LATENESS, "From a schedule's tick until its run was started.", LONG)
        self.restarts = meter.create_counter(names.METRIC_RESTARTS, "{restart}", "Actors that were started again.")
        self.wakeups = meter.create_counter(
            names.METRIC_WAKEUPS, "{wakeup}", "Workers told that there may be messages."
        )
        self.retries = meter.create_counter(
            names.METRIC_RETRIES, "{retry}", "Attempts that failed, of tasks that have another."
        )
        self.runs = meter.create_counter(names.METRIC_RUNS, "{run}", "Runs that ended with a task of this process.")


def instruments_of(meter_provider: Any) -> Instruments:
    """Those of a provider; None: the global one, also where that is set later."""
    return _globally() if meter_provider is None else Instruments(meter_provider)


@cache
def _globally() -> Instruments:
    # Once: what stands in for a global provider keeps each meter that it is asked for, for as long as the process.
    return Instruments(None)
