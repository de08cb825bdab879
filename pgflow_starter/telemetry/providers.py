"""`Providers`: OpenTelemetry's three providers behind one starter, and whether anybody hears what they are told."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Any

from opentelemetry import _logs, metrics, trace

from pgflow_starter.clock import Clock
from pgflow_starter.telemetry import names
from pgflow_starter.telemetry.events import Events
from pgflow_starter.telemetry.instruments import Instruments, instruments_of

logger = logging.getLogger("pgflow_starter.telemetry")

LOOK_INTERVAL = 0.5
"""Seconds in which a global provider that is set later is noticed."""


class Providers:
    """Those given, else the global ones, also where those are set later. Thread-safe."""

    def __init__(
        self, clock: Clock, tracer_provider: Any = None, meter_provider: Any = None, logger_provider: Any = None
    ) -> None:
        self.guard = Guard()
        self.meter_provider = meter_provider
        self.traces = Audience(clock, tracer_provider, trace.get_tracer_provider)
        self.metrics = Audience(clock, meter_provider, metrics.get_meter_provider)
        self.logs = Audience(clock, logger_provider, _logs.get_logger_provider)
        self.tracer: trace.Tracer = trace.NoOpTracer()
        self.instruments: Instruments | None = None
        self.events = Events(None, self.logs)
        with self.guard:
            self.tracer = trace.get_tracer(names.SCOPE, tracer_provider=tracer_provider)
        with self.guard:
            self.instruments = instruments_of(meter_provider)
        with self.guard:
            self.events = Events(_logs.get_logger(names.SCOPE, logger_provider=logger_provider), self.logs)

    @property
    def heard(self) -> bool:
        """Whether anybody hears anything."""
        return bool(self.traces or self.metrics or self.logs)


class Guard:
    """Around calls of OpenTelemetry's: what they raise is logged, each class of error once. Thread-safe, reentrant.

    One for everybody who tells of the same starter, for one broken provider fails them all.
    """

    def __init__(self) -> None:
        self._logged: set[type[BaseException]] = set()

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> bool:
        if kind is None or not issubclass(kind, (Exception, SystemExit)):
            return False
        if kind not in self._logged:
            self._logged.add(kind)
            logger.error("telling OpenTelemetry failed, which is said once", exc_info=error)
        return True


class Audience:
    """Whether one kind of telemetry has a provider that does anything; once it has, it keeps it. Thread-safe.

    Asking for a global one costs more than all the rest that a message costs where there is none.
    """

    __slots__ = ("_clock", "_current", "_given", "_look_at", "_there")

    def __init__(self, clock: Clock, given: object, current: Callable[[], object]) -> None:
        self._clock = clock
        self._current = current
        self._given = given
        self._look_at = -math.inf
        self._there = False

    def __bool__(self) -> bool:
        if not self._there and (now := self._clock.monotonic()) >= self._look_at:
            self._look_at = now + LOOK_INTERVAL
            self._there = not _silent(self._current() if self._given is None else self._given)
        return self._there


def _silent(provider: object) -> bool:
    # By name: what stands in for a provider to come is private for two of the three.
    return type(provider).__name__.lstrip("_").startswith(("NoOp", "Proxy"))
